// How the engine's thread waits for the cluster.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

#include "base/clock.h"

namespace pregate::coordinator {

class Waiter {
 public:
  virtual ~Waiter() = default;
  /// Returns when `done` holds, or at `until`. `done` may be called without the lock, and then from
  /// this thread; `changed` is notified whenever it may have come true.
  virtual void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                    TimePoint until, const std::function<bool()>& done) = 0;
};

/// Spins for a moment, then blocks.
class ThreadWaiter final : public Waiter {
 public:
  void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, TimePoint until,
            const std::function<bool()>& done) override;
};

}  // namespace pregate::coordinator
