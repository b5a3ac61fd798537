#include "transport/peer_table.h"

namespace pregate::transport {

Status check_size(size_t header_bytes, size_t payload_bytes) {
  if (header_bytes > kMaxHeaderBytes || payload_bytes > kMaxPayloadBytes) {
    return fail(ErrorCode::kInvalidArgument,
                "message with {} header and {} payload bytes, expected at most {} and {}",
                header_bytes, payload_bytes, kMaxHeaderBytes, kMaxPayloadBytes);
  }
  return {};
}

void PeerTable::set_hello(const Hello& hello) {
  std::lock_guard lock(mutex_);
  hello_ = hello;
}

std::array<std::byte, kHelloBytes> PeerTable::hello_bytes() const {
  std::lock_guard lock(mutex_);
  return encode_hello(hello_);
}

bool PeerTable::begin_greeting(PeerId peer) {
  std::lock_guard lock(mutex_);
  return !std::exchange(peers_[peer].greeted, true);
}

PeerTable::Greeting PeerTable::accept_hello(PeerId id, std::span<const std::byte> bytes) {
  Greeting greeting;
  auto hello = decode_hello(bytes);
  std::lock_guard lock(mutex_);
  Peer& peer = peers_[id];
  if (!hello) {
    greeting.down = in_context(std::move(hello.error()), fmt::format("peer {}", id));
    return greeting;
  }
  if (peer.incarnation == hello->incarnation) return greeting;
  if (peer.up) {
    greeting.failed = mark_down_locked(id);
    greeting.down = Error{ErrorCode::kUnavailable,
                          fmt::format("peer {} was replaced by a new incarnation", id)};
  }
  // A peer that is refused gets our hello all the same: it reads there why.
  greeting.answer = !std::exchange(peer.greeted, true);
  peer.incarnation = hello->incarnation;
  peer.up = hello->version == hello_.version;
  if (peer.up) {
    greeting.up = std::move(*hello);
  } else {
    greeting.down = Error{ErrorCode::kUnimplemented,
                          fmt::format("peer {} speaks protocol version {}, expected {}", id,
                                      hello->version, hello_.version)};
  }
  return greeting;
}

bool PeerTable::is_up(PeerId id) const {
  std::lock_guard lock(mutex_);
  const auto peer = peers_.find(id);
  return peer != peers_.end() && peer->second.up;
}

Result<uint64_t> PeerTable::admit(PeerId id, size_t header_bytes, size_t payload_bytes,
                                  Completion done) {
  PREGATE_TRY(check_size(header_bytes, payload_bytes));
  std::lock_guard lock(mutex_);
  const auto peer = peers_.find(id);
  if (peer == peers_.end() || !peer->second.up) {
    return fail(ErrorCode::kUnavailable, "peer {} is not connected", id);
  }
  // Every send counts as a full header at least, so that their number is bounded as well.
  const size_t bytes = kMaxHeaderBytes + payload_bytes;
  if (peer->second.in_flight_bytes + bytes > max_in_flight_bytes_) {
    return fail(ErrorCode::kResourceExhausted, "{} bytes to peer {} are in flight, the bound is {}",
                peer->second.in_flight_bytes, id, max_in_flight_bytes_);
  }
  peer->second.in_flight_bytes += bytes;
  sends_.emplace(next_send_id_, Send{id, bytes, std::move(done)});
  return next_send_id_++;
}

std::optional<Completion> PeerTable::complete(uint64_t send_id) {
  std::lock_guard lock(mutex_);
  const auto send = sends_.find(send_id);
  if (send == sends_.end()) return std::nullopt;
  peers_[send->second.peer].in_flight_bytes -= send->second.bytes;
  Completion done = std::move(send->second.done);
  sends_.erase(send);
  return done;
}

std::vector<Completion> PeerTable::mark_down(PeerId id) {
  std::lock_guard lock(mutex_);
  return mark_down_locked(id);
}

std::vector<Completion> PeerTable::forget(PeerId id) {
  std::lock_guard lock(mutex_);
  auto failed = mark_down_locked(id);
  peers_.erase(id);
  return failed;
}

std::vector<Completion> PeerTable::mark_down_locked(PeerId id) {
  Peer& peer = peers_[id];
  peer.up = false;
  peer.greeted = false;
  peer.in_flight_bytes = 0;
  std::vector<Completion> failed;
  std::erase_if(sends_, [&](auto& entry) {
    if (entry.second.peer != id) return false;
    failed.push_back(std::move(entry.second.done));
    return true;
  });
  return failed;
}

std::vector<Completion> PeerTable::take_all() {
  std::lock_guard lock(mutex_);
  std::vector<Completion> all;
  for (auto& [id, send] : sends_) all.push_back(std::move(send.done));
  sends_.clear();
  return all;
}

size_t PeerTable::num_in_flight() const {
  std::lock_guard lock(mutex_);
  return sends_.size();
}

void complete_all(const std::vector<Completion>& completions, const Status& status) {
  for (const Completion& done : completions) {
    if (done) done(status);
  }
}

}  // namespace pregate::transport
