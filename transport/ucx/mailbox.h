// What other threads ask of the one that does UCX's work, and who that is: the transport's own
// thread, or for a while one that drives.
#pragma once

#include <deque>
#include <memory>
#include <mutex>

#include "transport/transport.h"
#include "transport/ucx/poller.h"

namespace pregate::transport {

struct UcxCommand {
  enum class Kind { kConnect, kDial, kSend, kDisconnect, kStop };
  Kind kind = Kind::kStop;
  PeerId peer;
  uint64_t send_id = 0;                // kSend
  std::vector<std::byte> header;       // kSend: UcxLink::make_header()
  Payload payload;                     // kSend
  std::vector<Completion> failed;      // kDisconnect
  uint64_t token = 0;                  // kDial: of the connection
  Result<SocketAddress> address = {};  // kDial: where its name leads
  TimePoint leave_by;                  // kStop
};

/// Shared with the threads that look names up, which may outlive the transport. Thread-safe, but
/// for the pollers.
class UcxMailbox {
 public:
  UcxMailbox(Poller own, Poller drivers) : poller(std::move(own)), driver(std::move(drivers)) {}

  Poller poller;  ///< What the transport's own thread sleeps on.
  Poller driver;  ///< And one that drives.

  void post(UcxCommand command) {
    queue(std::move(command));
    rouse();
  }
  /// Without waking anybody.
  void queue(UcxCommand command) {
    std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  /// Whoever is to do the work, if it sleeps.
  void rouse() {
    Poller* asleep = nullptr;
    {
      std::lock_guard lock(mutex_);
      asleep = std::exchange(asleep_, nullptr);
    }
    if (asleep != nullptr) asleep->wake();
  }

  std::deque<UcxCommand> take() {
    std::lock_guard lock(mutex_);
    return std::exchange(commands_, {});
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
    if (!driven_) asleep_ = &poller;
    return true;
  }
  void awake() {
    std::lock_guard lock(mutex_);
    own_asleep_ = false;
    if (asleep_ == &poller) asleep_ = nullptr;
  }

  // A thread that drives.

  /// False: another one does.
  bool begin_drive() {
    std::lock_guard lock(mutex_);
    if (std::exchange(driven_, true)) return false;
    asleep_ = nullptr;
    interrupted_ = false;
    return true;
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
      if (own_asleep_) asleep_ = &poller;
      more |= !commands_.empty();
    }
    if (more) rouse();
  }

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::deque<UcxCommand> commands_;
  bool driven_ = false;
  bool interrupted_ = false;
  bool own_asleep_ = false;   // the transport's own thread
  Poller* asleep_ = nullptr;  // of whoever takes the commands, if it sleeps
};

}  // namespace pregate::transport
