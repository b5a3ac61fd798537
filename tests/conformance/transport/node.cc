#include <algorithm>

#include "tests/conformance/transport/scenarios.h"

namespace pregate::transport {
namespace {

/// Generous: it only ends a test that has failed.
constexpr auto kDeadline = std::chrono::seconds(40);
constexpr std::byte kHere{0xEE};

}  // namespace

void Node::start(uint32_t version) {
  transport_->start({version, /*incarnation=*/id() + 100, {std::byte(id())}}, events());
}

Status Node::open() {
  start();
  for (uint32_t peer = 0; peer < id(); ++peer) transport_->connect(PeerId(peer));
  for (uint32_t peer = 0; peer < kNumNodes; ++peer) {
    if (peer != id()) PREGATE_TRY(wait_up(PeerId(peer)));
  }
  return {};
}

Events Node::events() {
  Events events;
  events.peer_up = [this](PeerId peer, const Hello&) {
    std::lock_guard lock(mutex_);
    up_.push_back(peer);
    changed_.notify_all();
  };
  events.peer_down = [this](PeerId peer, const Error&) {
    std::lock_guard lock(mutex_);
    down_.push_back(peer);
    changed_.notify_all();
  };
  events.receive = [this](PeerId from, std::span<const std::byte> header, Payload payload) {
    on_receive(from, header, std::move(payload));
  };
  return events;
}

void Node::on_receive(PeerId from, std::span<const std::byte> header, Payload payload) {
  std::unique_lock lock(mutex_);
  if (header.size() == 1 && header[0] == kHere) {
    // Passes a closed gate: a peer that is done early must not keep another one's hello out.
    arrived_.push_back(from.value);
  } else {
    ++num_at_gate_;
    changed_.notify_all();
    changed_.wait_for(lock, kDeadline, [this] { return gate_open_; });
    received_.push_back({from, {header.begin(), header.end()}, std::move(payload)});
  }
  changed_.notify_all();
}

Status Node::wait(const std::string& what, const std::function<bool()>& done) {
  const TimePoint deadline = system_clock().now() + kDeadline;
  if (drives_) drive(deadline, done);
  std::unique_lock lock(mutex_);
  if (changed_.wait_until(lock, deadline, done)) return {};
  return fail(ErrorCode::kDeadlineExceeded, "node {} waited in vain for {}", id(), what);
}

void Node::drive(TimePoint until, const std::function<bool()>& done) {
  const auto is_over = [&] {
    std::lock_guard lock(mutex_);
    // Behind a closed gate a callback would wait for the thread that opens it: this one.
    return done() || !gate_open_ || system_clock().now() >= until;
  };
  while (!is_over() && transport_->drive(until, is_over)) {
  }
}

Status Node::wait_up(PeerId peer) {
  return wait(fmt::format("{} to be up", peer),
              [&] { return std::count(up_.begin(), up_.end(), peer) > 0; });
}

Status Node::wait_down(PeerId peer) {
  return wait(fmt::format("{} to be down", peer),
              [&] { return std::count(down_.begin(), down_.end(), peer) > 0; });
}

Status Node::send(PeerId to, std::span<const std::byte> header, Payload payload) {
  {
    std::lock_guard lock(mutex_);
    ++num_sends_;
  }
  const auto done = [this](const Status& status) {
    std::lock_guard lock(mutex_);
    ++num_completed_;
    if (!status) ++num_failed_;
    changed_.notify_all();
  };
  const Status sent = drives_ ? transport_->queue(to, header, std::move(payload), done)
                              : transport_->send(to, header, std::move(payload), done);
  if (!sent) {
    std::lock_guard lock(mutex_);
    --num_sends_;
  }
  return sent;
}

Result<Node::Received> Node::receive() {
  PREGATE_TRY(wait("a message", [this] { return !received_.empty(); }));
  std::lock_guard lock(mutex_);
  Received received = std::move(received_.front());
  received_.pop_front();
  return received;
}

Result<size_t> Node::wait_sent() {
  PREGATE_TRY(wait("completions", [this] { return num_completed_ == num_sends_; }));
  std::lock_guard lock(mutex_);
  return num_failed_;
}

Status Node::meet(const std::vector<uint32_t>& others) {
  for (const uint32_t other : others) {
    PREGATE_TRY(transport_->send(PeerId(other), {&kHere, 1}, {}, {}));
  }
  for (const uint32_t other : others) {
    PREGATE_TRY(wait(fmt::format("node {}'s end", other),
                     [&] { return std::count(arrived_.begin(), arrived_.end(), other) > 0; }));
    std::lock_guard lock(mutex_);
    arrived_.erase(std::find(arrived_.begin(), arrived_.end(), other));
  }
  return {};
}

void Node::close_gate() {
  std::lock_guard lock(mutex_);
  gate_open_ = false;
}

void Node::wait_at_gate() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kDeadline, [this] { return num_at_gate_ > 0; });
}

void Node::open_gate() {
  std::lock_guard lock(mutex_);
  gate_open_ = true;
  changed_.notify_all();
}

bool Node::stop(bool peers_lost) {
  if (!std::exchange(stopped_, true)) {
    transport_->stop({.linger = std::chrono::seconds(1), .peers_lost = peers_lost});
  }
  return transport_->needs_hard_exit();
}

}  // namespace pregate::transport
