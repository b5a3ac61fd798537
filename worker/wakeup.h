// Lets a thread sleep until a time or until somebody has something for it.
#pragma once

#include <condition_variable>
#include <mutex>

#include "base/clock.h"

namespace pregate::worker {

class Wakeup {
 public:
  /// Ends the current or the next wait. Thread-safe.
  void wake();
  /// Returns at `time`, after wake(), or now and then for nothing.
  void wait_until(TimePoint time, const Clock& clock);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;  // guarded by mutex_
};

}  // namespace pregate::worker
