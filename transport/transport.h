// Moves bytes between the processes of a cluster. It knows headers and payloads, never what they
// mean. A new transport is held to tests/conformance/transport; the recipe is in
// docs/how-to/add-a-transport.md.
//
// What every transport promises:
//   - Messages of one peer arrive whole, once and in the order sent. One that can reorder on its
//     way numbers them.
//   - Nothing blocks. A send over the bound of bytes in flight is refused.
//   - The callbacks of one transport run one at a time, on a thread of its own or on one in
//     drive(), never while it holds a lock that they could want. They may call what they like of
//     the transport, but not drive() and stop().
//   - It may not notice that a peer froze or died (MPI never does): liveness lies above, which
//     calls disconnect().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "transport/payload.h"

namespace pregate::transport {

/// A process as the transport numbers it, for example its MPI rank.
using PeerId = StrongId<struct PeerTag, uint32_t>;

inline constexpr size_t kMaxHeaderBytes = 1024;
/// 1 GiB: far over any token batch, and within the `int` counts of MPI.
inline constexpr size_t kMaxPayloadBytes = size_t{1} << 30;
inline constexpr size_t kMaxHelloInfoBytes = 44;
/// Of one peer: sends accepted and not complete.
inline constexpr size_t kDefaultInFlightBytes = size_t{1} << 30;

/// The first message of either end, at most 64 bytes on the wire.
struct Hello {
  uint32_t version = 0;         ///< Of what is spoken above; peers of another one are refused.
  uint64_t incarnation = 0;     ///< Drawn at random by each process: tells it from its past self.
  std::vector<std::byte> info;  ///< For the layer above; up to kMaxHelloInfoBytes.
  uint16_t features = 0;        ///< Of the transport; the layer above leaves it alone.
};
/// A feature: large payloads may go by NCCL (transport/nccl/nccl.h).
inline constexpr uint16_t kNcclFeature = 1;

/// Any of them may be empty.
struct Events {
  /// Hellos were exchanged: the peer can be sent to.
  std::function<void(PeerId, const Hello&)> peer_up;
  /// The peer closed, broke or came back as another incarnation; or was refused, then without a
  /// peer_up before. Not called for the caller's own disconnect().
  std::function<void(PeerId, const Error&)> peer_down;
  /// The header is valid during the call; the payload, which few give a tail, while it is kept.
  std::function<void(PeerId, std::span<const std::byte> header, Payload)> receive;
};

/// Called once when the transport needs the bytes no more. Success does not say that the peer has
/// read them; kUnavailable: the peer went away; kCancelled: stop() came first.
using Completion = std::function<void(const Status&)>;

struct StopOptions {
  /// How long accepted sends may still take.
  Duration linger = std::chrono::seconds(1);
  /// Some process of the launch is gone: leave without waiting for the others.
  bool peers_lost = false;
};

/// Thread-safe, except that start() comes first and stop() last, once each.
class Transport {
 public:
  virtual ~Transport() = default;
  /// For logs and metrics, for example "mpi".
  virtual std::string name() const = 0;
  virtual PeerId self() const = 0;
  /// The other processes this one was launched with; empty where they come and go.
  virtual std::vector<PeerId> launched_peers() const = 0;

  virtual void start(Hello hello, Events events) = 0;
  /// Sends the hello (UCX: dials first); peer_up follows when the answer is here, or peer_down. One
  /// side's connect() is enough, and a started transport accepts any peer of the right version.
  virtual void connect(PeerId peer) = 0;
  /// kUnavailable: no such peer, or not up. kResourceExhausted: too many bytes in flight.
  /// kInvalidArgument: larger than the limits above. After an error `done` is not called.
  virtual Status send(PeerId to, std::span<const std::byte> header, Payload payload,
                      Completion done) = 0;
  /// Whether a tail of that size would go to the peer from device to device now (nccl/nccl.h).
  virtual bool takes_tail(PeerId /*to*/, size_t /*tail_bytes*/) const { return false; }
  /// As send(), by a caller whose next call is drive(), or from a callback: no thread is woken to
  /// take the message.
  virtual Status queue(PeerId to, std::span<const std::byte> header, Payload payload,
                       Completion done) {
    return send(to, header, std::move(payload), std::move(done));
  }
  /// Gives a peer up: its pending sends end with kUnavailable and nothing of it arrives any more,
  /// until another incarnation says hello or, where connections have an end (UCX), on a new one.
  virtual void disconnect(PeerId peer) = 0;
  /// After it returns no callback runs.
  virtual void stop(const StopOptions& options) = 0;

  /// Does the transport's work on the caller's thread, callbacks included, until `done` holds or
  /// `until`, and at least what can be done at once. Who waits for a message so takes it from the
  /// network himself, and saves the time that it takes one thread to wake another. To be called
  /// without a lock that a callback wants; `done` is asked after callbacks, without a lock. False:
  /// it was not done (not every transport can, and only for one caller at a time); wait in another
  /// way.
  virtual bool drive(TimePoint /*until*/, const std::function<bool()>& /*done*/) { return false; }
  /// Has a drive() under way ask its `done` again. Locks may be held.
  virtual void interrupt_drive() {}

  /// After stop(): leaving main() in the usual way could hang (MPI, when a peer was lost), so the
  /// process should flush its output and _exit().
  virtual bool needs_hard_exit() const { return false; }
};

}  // namespace pregate::transport
