#include "coordinator/dispatch/waiter.h"

namespace pregate::coordinator {
namespace {

/// A reply of one token is often there within the time that going to sleep and waking take.
constexpr auto kSpinTime = std::chrono::microseconds(20);

}  // namespace

void ThreadWaiter::wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                        TimePoint until, const std::function<bool()>& done) {
  lock.unlock();
  const bool driven = transport_.drive(until, done);
  const TimePoint spin_end = system_clock().now() + kSpinTime;
  while (!driven && !done() && system_clock().now() < spin_end) {
  }
  lock.lock();
  if (!driven) changed.wait_until(lock, until, done);
}

void ThreadWaiter::flush() {
  transport_.drive(TimePoint::min(), [] { return true; });
}

}  // namespace pregate::coordinator
