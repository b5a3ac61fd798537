// What every transport keeps about its peers: who said hello, and which sends are in flight.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "transport/hello.h"

namespace pregate::transport {

/// Thread-safe; calls nothing back.
class PeerTable {
 public:
  explicit PeerTable(size_t max_in_flight_bytes) : max_in_flight_bytes_(max_in_flight_bytes) {}

  void set_hello(const Hello& hello);
  std::array<std::byte, kHelloBytes> hello_bytes() const;

  /// True if our hello has not been sent to this peer: the caller sends it now.
  bool begin_greeting(PeerId peer);

  struct Greeting {
    bool answer = false;             ///< Send our hello now.
    std::vector<Completion> failed;  ///< Sends to the incarnation that this one replaces.
    std::optional<Error> down;       ///< Report peer_down.
    std::optional<Hello> up;         ///< Then report peer_up.
  };
  /// What a received hello changes.
  Greeting accept_hello(PeerId peer, std::span<const std::byte> bytes);

  bool is_up(PeerId peer) const;

  /// Counts a send in; the id names it until complete() or mark_down(). Errors as Transport::send.
  Result<uint64_t> admit(PeerId peer, size_t header_bytes, size_t payload_bytes, Completion done);
  /// Counts a send out; nothing if it ended before.
  std::optional<Completion> complete(uint64_t send_id);
  /// The peer is gone: its sends end. Its incarnation is not accepted again.
  std::vector<Completion> mark_down(PeerId peer);
  /// As mark_down(), and nothing is remembered: for transports where a connection has a beginning
  /// and an end, so that the same incarnation may come back on another one.
  std::vector<Completion> forget(PeerId peer);
  /// Every send still in flight, when the transport stops.
  std::vector<Completion> take_all();
  size_t num_in_flight() const;

 private:
  struct Peer {
    bool greeted = false;
    bool up = false;
    std::optional<uint64_t> incarnation;  // of the last hello
    size_t in_flight_bytes = 0;
  };
  struct Send {
    PeerId peer;
    size_t bytes = 0;
    Completion done;
  };

  std::vector<Completion> mark_down_locked(PeerId peer);

  const size_t max_in_flight_bytes_;
  mutable std::mutex mutex_;
  Hello hello_;                             // guarded by mutex_
  std::unordered_map<PeerId, Peer> peers_;  // guarded by mutex_
  std::map<uint64_t, Send> sends_;          // guarded by mutex_
  uint64_t next_send_id_ = 1;               // guarded by mutex_
};

/// kInvalidArgument for a message over the limits of transport.h.
Status check_size(size_t header_bytes, size_t payload_bytes);

/// Calls each with `status`.
void complete_all(const std::vector<Completion>& completions, const Status& status);

}  // namespace pregate::transport
