#include "transport/mpi/bell.h"

#include <ctime>
#include <limits>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pregate::transport {
namespace {

/// Not "private": other processes wake it.
void futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value, timeout, nullptr, 0);
}

}  // namespace

void Bell::wake() {
  memory_->rings.fetch_add(1);
  if (memory_->sleepers.load() == 0) return;
  futex(memory_->rings, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr);
}

bool Bell::wait(uint32_t rings, Duration duration) {
  using std::chrono::duration_cast;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(duration);
  const timespec timeout{seconds.count(),
                         duration_cast<std::chrono::nanoseconds>(duration - seconds).count()};
  memory_->sleepers.fetch_add(1);
  futex(memory_->rings, FUTEX_WAIT, rings, &timeout);
  memory_->sleepers.fetch_sub(1);
  return memory_->rings.load() != rings;
}

}  // namespace pregate::transport
