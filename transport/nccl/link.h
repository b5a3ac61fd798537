// One peer that has NCCL: what is sent to it, what comes from it, and the notes between.
#pragma once

#include "transport/nccl/inbound.h"
#include "transport/nccl/outbound.h"

namespace pregate::transport {

class NcclLink {
 public:
  /// `trusted`: it may offer a lane before it was sent a payload.
  NcclLink(PeerId peer, bool trusted, NcclShared& shared)
      : peer_(peer), trusted_(trusted), shared_(shared), out_(peer, shared), in_(peer, shared) {}

  /// As Transport::send(). Thread-safe.
  Status send(std::span<const std::byte> header, Payload payload, Completion done,
              Outbound::Wake wake) {
    return out_.send(header, std::move(payload), std::move(done), wake);
  }
  /// As Transport::takes_tail(). Thread-safe.
  bool takes_tail(size_t tail_bytes) const { return out_.takes_tail(tail_bytes); }
  /// What the carrier brings. Error: the peer is not to be listened to any more.
  Status receive(std::span<const std::byte> header, Payload payload);

  /// As Outbound::close(); nothing is handed on any more. Thread-safe.
  void close(const Error& why);
  /// All that was sent is received. Thread-safe.
  bool is_idle() const { return out_.is_idle(); }
  /// Whether the destructor would not wait for threads. Thread-safe.
  bool has_ended() const { return out_.has_ended() && in_.has_ended(); }

 private:
  Status read(const ReceivedNote& note);

  const PeerId peer_;
  const bool trusted_;
  NcclShared& shared_;
  Outbound out_;
  Inbound in_;
};

}  // namespace pregate::transport
