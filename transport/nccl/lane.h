// What the transport asks of NCCL: one-way lanes between two processes that each have a GPU. The
// module that is loaded at run time (module.h) makes them of communicators; tests, of sockets.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "base/clock.h"
#include "base/device_memory.h"
#include "base/result.h"

namespace pregate::transport {

/// What both ends must know to find each other; an ncclUniqueId.
using LaneKey = std::array<std::byte, 128>;

enum class LaneEnd : uint8_t { kSender, kReceiver };

/// Bytes that a lane brings somewhere, and where they are: in host memory, or in that of the lane's
/// device, where the lane reads and writes them without the host.
template <typename Byte>
struct LaneBytes {
  std::span<Byte> bytes;
  DeviceMemory* memory = nullptr;  ///< Null: the host's.
};

/// One end. Used by one thread, which waits, in the destructor too, but for cancel(). Errors:
/// kCancelled, kDeadlineExceeded, kUnavailable with what NCCL or the device says. After one the
/// lane is of no use, what the other end received is unknown, and bytes in device memory that the
/// call was given must stay until the lane is destroyed: the device may be at work there.
class Lane {
 public:
  virtual ~Lane() = default;
  /// Until the other end has joined as well. Comes first.
  virtual Status join(const LaneKey& key, LaneEnd end, TimePoint until) = 0;
  /// The n-th send() of one end goes to the n-th receive() of the other; both know its size, which
  /// is not 0, and neither where the other's bytes are. Success of send(): the bytes are needed no
  /// more. Success of receive(): they are there for anybody, but it says little unless the send()
  /// succeeded too: an end that gives up may leave the other one with bytes that nobody sent.
  /// `max_stall`: how long nothing may move.
  virtual Status send(const LaneBytes<const std::byte>& from, Duration max_stall) = 0;
  virtual Status receive(const LaneBytes<std::byte>& to, Duration max_stall) = 0;
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
