// How the engine's thread waits for the cluster.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

#include "base/clock.h"
#include "transport/transport.h"

namespace pregate::coordinator {

class Waiter {
 public:
  virtual ~Waiter() = default;
  /// Returns when `done` holds, or at `until`. `done` may be called without the lock, and then from
  /// this thread; `changed` is notified whenever it may have come true.
  virtual void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                    TimePoint until, const std::function<bool()>& done) = 0;
  /// `done` may have come true. With the lock.
  virtual void interrupt() {}
  /// Messages were queued: see Transport::queue(). Without the lock.
  virtual void flush() {}
};

/// Waits in the transport, if that can be. Else spins for a moment, then blocks.
class ThreadWaiter final : public Waiter {
 public:
  /// `transport` outlives it.
  explicit ThreadWaiter(transport::Transport& transport) : transport_(transport) {}

  void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, TimePoint until,
            const std::function<bool()>& done) override;
  void interrupt() override { transport_.interrupt_drive(); }
  void flush() override;

 private:
  transport::Transport& transport_;
};

}  // namespace pregate::coordinator
