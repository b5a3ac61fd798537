#include "base/thread_pool.h"

#include "base/check.h"

namespace pregate {
namespace {

// About 20 us on current machines: longer than the gap between the loops of one decode step,
// shorter than a wait for another process.
constexpr int kSpins = 2000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

ThreadPool::ThreadPool(size_t num_threads) {
  PREGATE_CHECK(num_threads > 0);
  threads_.reserve(num_threads - 1);
  for (size_t i = 1; i < num_threads; ++i) {
    threads_.emplace_back([this, i] { serve(i); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_.store(true);
  }
  wake_.notify_all();
}

void ThreadPool::run(const std::function<void(size_t)>& body) {
  if (!threads_.empty()) {
    body_ = &body;
    num_running_.store(threads_.size(), std::memory_order_relaxed);
    {
      std::lock_guard lock(mutex_);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
  }
  body(0);
  for (int spins = 0; num_running_.load(std::memory_order_acquire) > 0; ++spins) {
    // A team member may share this core with us: give it up rather than spin for ever.
    if (spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::parallel_for(size_t num_tasks, const std::function<void(size_t, size_t)>& body) {
  if (num_tasks == 0) return;
  if (num_tasks == 1 || threads_.empty()) {
    for (size_t task = 0; task < num_tasks; ++task) body(task, 0);
    return;
  }
  std::atomic<size_t> next{0};
  run([&](size_t thread_idx) {
    for (size_t task = next.fetch_add(1, std::memory_order_relaxed); task < num_tasks;
         task = next.fetch_add(1, std::memory_order_relaxed)) {
      body(task, thread_idx);
    }
  });
}

void ThreadPool::serve(size_t thread_idx) {
  uint64_t seen = 0;
  while (wait_for_epoch(seen)) {
    ++seen;
    (*body_)(thread_idx);
    num_running_.fetch_sub(1, std::memory_order_release);
  }
}

bool ThreadPool::wait_for_epoch(uint64_t seen) {
  for (int spins = 0; spins < kSpins; ++spins) {
    if (epoch_.load(std::memory_order_acquire) != seen) return true;
    if (stopping_.load(std::memory_order_relaxed)) return false;
    relax();
  }
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return epoch_.load() != seen || stopping_.load(); });
  return epoch_.load() != seen;
}

}  // namespace pregate
