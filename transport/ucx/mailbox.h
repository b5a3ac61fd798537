// What other threads ask of the one that owns UCX.
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
/// for `poller`, whose owner is the owner of UCX.
class UcxMailbox {
 public:
  explicit UcxMailbox(Poller p) : poller(std::move(p)) {}

  Poller poller;

  void post(UcxCommand command) {
    bool wake = false;
    {
      std::lock_guard lock(mutex_);
      commands_.push_back(std::move(command));
      wake = std::exchange(asleep_, false);
    }
    if (wake) poller.wake();
  }

  std::deque<UcxCommand> take() {
    std::lock_guard lock(mutex_);
    return std::exchange(commands_, {});
  }

  /// From now on post() wakes the poller; false if there are commands to take first.
  bool fall_asleep() {
    std::lock_guard lock(mutex_);
    asleep_ = commands_.empty();
    return asleep_;
  }
  void awake() {
    std::lock_guard lock(mutex_);
    asleep_ = false;
  }

 private:
  std::mutex mutex_;
  std::deque<UcxCommand> commands_;  // guarded by mutex_
  bool asleep_ = false;              // guarded by mutex_
};

}  // namespace pregate::transport
