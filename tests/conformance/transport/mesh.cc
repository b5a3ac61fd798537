#include "tests/conformance/transport/mesh.h"

#include "tests/conformance/transport/scenarios.h"

namespace pregate::transport {
namespace {

/// Whom a connection belonged to that was refused: it has no hello to tell. In the scenarios that
/// is only ever the last node.
constexpr PeerId kRefused{kNumNodes - 1};
constexpr PeerId kNobody{~0u};

}  // namespace

void Mesh::start(Hello hello, Events events) {
  events_ = std::move(events);
  Events mapped;
  mapped.peer_up = [this](PeerId peer, const Hello& theirs) {
    const PeerId node(static_cast<uint32_t>(theirs.info.at(0)));
    {
      std::lock_guard lock(mutex_);
      peers_[node] = peer;
    }
    events_.peer_up(node, theirs);
  };
  mapped.peer_down = [this](PeerId peer, const Error& error) {
    const PeerId node = node_of(peer);
    {
      std::lock_guard lock(mutex_);
      peers_.erase(node);
    }
    events_.peer_down(node, error);
  };
  mapped.receive = [this](PeerId peer, std::span<const std::byte> header, Payload payload) {
    events_.receive(node_of(peer), header, std::move(payload));
  };
  ucx_->start(std::move(hello), std::move(mapped));
}

PeerId Mesh::node_of(PeerId peer) const {
  std::lock_guard lock(mutex_);
  for (const auto& [node, of_node] : peers_) {
    if (of_node == peer) return node;
  }
  return peer.value < self().value ? peer : kRefused;
}

PeerId Mesh::peer_of(PeerId node) const {
  std::lock_guard lock(mutex_);
  const auto peer = peers_.find(node);
  return peer == peers_.end() ? kNobody : peer->second;
}

Status Mesh::send(PeerId to, std::span<const std::byte> header, Payload payload, Completion done) {
  return ucx_->send(peer_of(to), header, std::move(payload), std::move(done));
}

Status Mesh::queue(PeerId to, std::span<const std::byte> header, Payload payload, Completion done) {
  return ucx_->queue(peer_of(to), header, std::move(payload), std::move(done));
}

void Mesh::disconnect(PeerId node) { ucx_->disconnect(peer_of(node)); }

}  // namespace pregate::transport
