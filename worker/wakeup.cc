#include "worker/wakeup.h"

#include <algorithm>

namespace pregate::worker {

void Wakeup::wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

void Wakeup::wait_until(TimePoint time, const Clock& clock) {
  // Times such as "never" would overflow inside the condition variable.
  constexpr Duration kLongest = std::chrono::minutes(1);
  const Duration wait = std::min(time - clock.now(), kLongest);
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, wait, [this] { return woken_; });
  woken_ = false;
}

}  // namespace pregate::worker
