// What the transport asks of NCCL: one-way lanes between two processes that each have a GPU. The
// module that is loaded at run time (module.h) makes them of communicators; tests, of sockets.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "base/clock.h"
#include "base/result.h"

namespace pregate::transport {

/// What both ends must know to find each other; an ncclUniqueId.
using LaneKey = std::array<std::byte, 128>;

enum class LaneEnd : uint8_t { kSender, kReceiver };

/// One end. Used by one thread, which waits, in the destructor too, but for cancel(). Errors:
/// kCancelled, kDeadlineExceeded, kUnavailable with what NCCL or the device says. After one the
/// lane is of no use, and what the other end received is unknown.
class Lane {
 public:
  virtual ~Lane() = default;
  /// Until the other end has joined as well. Comes first.
  virtual Status join(const LaneKey& key, LaneEnd end, TimePoint until) = 0;
  /// The n-th send() of one end goes to the n-th receive() of the other; both know its size, which
  /// is not 0. Success of send(): the bytes are needed no more. Success of receive() says little
  /// unless the send() succeeded too: an end that gives up may leave the other one with bytes that
  /// nobody sent. `max_stall`: how long nothing may move.
  virtual Status send(std::span<const std::byte> bytes, Duration max_stall) = 0;
  virtual Status receive(std::span<std::byte> bytes, Duration max_stall) = 0;
  /// By any thread: ends the call under way and all later ones.
  virtual void cancel() = 0;
};

/// The lanes of one device. Thread-safe.
class LaneMaker {
 public:
  virtual ~LaneMaker() = default;
  virtual Result<LaneKey> make_key() = 0;
  virtual std::unique_ptr<Lane> make_lane() = 0;
};

}  // namespace pregate::transport
