// What other threads ask of the one that does a transport's work, and who that is: the transport's
// own thread, or for a while one that drives (Transport::drive()).
#pragma once

#include <deque>
#include <mutex>
#include <utility>

#include "base/clock.h"

namespace pregate::transport {

/// When a drive() ends that is not done.
class DriveEnd {
 public:
  explicit DriveEnd(TimePoint until) : until_(until) {}

  /// To be asked after each turn. Once the time is over: if there was nothing to do, or still is
  /// after some more turns.
  bool is_reached(bool was_busy) {
    if (system_clock().now() < until_) return false;
    return !was_busy || ++num_late_turns_ > kMaxLateTurns;
  }

 private:
  static constexpr int kMaxLateTurns = 16;

  const TimePoint until_;
  int num_late_turns_ = 0;
};

/// `Sleeper` is what a thread of the transport sleeps on: wake() ends its sleep, or the next.
/// Thread-safe, but for the sleepers.
template <typename Command, typename Sleeper>
class Mailbox {
 public:
  Mailbox() = default;
  Mailbox(Sleeper of_own, Sleeper of_driver)
      : own(std::move(of_own)), driver(std::move(of_driver)) {}

  Sleeper own;     ///< What the transport's own thread sleeps on.
  Sleeper driver;  ///< And one that drives.

  void post(Command command) {
    queue(std::move(command));
    rouse();
  }
  /// Without waking anybody.
  void queue(Command command) {
    std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  /// Whoever is to do the work, if it sleeps.
  void rouse() {
    Sleeper* asleep = nullptr;
    {
      std::lock_guard lock(mutex_);
      asleep = std::exchange(asleep_, nullptr);
    }
    if (asleep != nullptr) asleep->wake();
  }

  std::deque<Command> take() {
    std::lock_guard lock(mutex_);
    return std::exchange(commands_, {});
  }
  bool empty() const {
    std::lock_guard lock(mutex_);
    return commands_.empty();
  }

  // The transport's own thread.

  /// Whether it must leave the work to another thread.
  bool is_driven() const {
    std::lock_guard lock(mutex_);
    return driven_;
  }
  /// From now on it is roused when there is something to do for it; false if there is already.
  bool fall_asleep() {
    std::lock_guard lock(mutex_);
    if (!driven_ && !commands_.empty()) return false;
    own_asleep_ = true;
    if (!driven_) asleep_ = &own;
    return true;
  }
  void awake() {
    std::lock_guard lock(mutex_);
    own_asleep_ = false;
    if (asleep_ == &own) asleep_ = nullptr;
  }

  // A thread that drives.

  /// False: another one does, and is roused for what was queued.
  bool begin_drive() {
    {
      std::lock_guard lock(mutex_);
      if (!std::exchange(driven_, true)) {
        asleep_ = nullptr;
        interrupted_ = false;
        return true;
      }
    }
    rouse();
    return false;
  }
  /// Keeps it awake for another look, or wakes it. By any thread; nothing if none drives.
  void interrupt_drive() {
    {
      std::lock_guard lock(mutex_);
      if (!driven_) return;
      interrupted_ = true;
    }
    rouse();
  }
  /// False if there is something to look at first.
  bool driver_falls_asleep() {
    std::lock_guard lock(mutex_);
    if (std::exchange(interrupted_, false) || !commands_.empty()) return false;
    asleep_ = &driver;
    return true;
  }
  void driver_awakes() {
    std::lock_guard lock(mutex_);
    asleep_ = nullptr;
  }
  /// Hands the work back; `more`: there is some besides the commands.
  void end_drive(bool more) {
    {
      std::lock_guard lock(mutex_);
      driven_ = false;
      if (own_asleep_) asleep_ = &own;
      more |= !commands_.empty();
    }
    if (more) rouse();
  }

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::deque<Command> commands_;
  bool driven_ = false;
  bool interrupted_ = false;
  bool own_asleep_ = false;    // the transport's own thread
  Sleeper* asleep_ = nullptr;  // of whoever takes the commands, if it sleeps
};

}  // namespace pregate::transport
