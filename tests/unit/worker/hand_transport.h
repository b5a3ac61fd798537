// A transport of one peer that a test plays by hand: it sees what is sent and says what arrives.
#pragma once

#include <deque>
#include <utility>

#include "protocol/codec.h"
#include "transport/transport.h"

namespace pregate::testing {

struct SentMessage {
  protocol::Bytes header;
  transport::Payload payload;
  protocol::MessageType type() const { return protocol::decode_type(header).value(); }
};

/// For one thread.
class HandTransport final : public transport::Transport {
 public:
  static constexpr transport::PeerId kPeer{0};

  std::string name() const override { return "hand"; }
  transport::PeerId self() const override { return transport::PeerId(1); }
  std::vector<transport::PeerId> launched_peers() const override { return {kPeer}; }
  void start(transport::Hello hello, transport::Events events) override {
    hello_of_worker = std::move(hello);
    events_ = std::move(events);
  }
  void connect(transport::PeerId) override { ++num_dials; }
  Status send(transport::PeerId, std::span<const std::byte> header, transport::Payload payload,
              transport::Completion) override {
    if (!is_up) return fail(ErrorCode::kUnavailable, "not up");
    sent.push_back({{header.begin(), header.end()}, std::move(payload)});
    return {};
  }
  void disconnect(transport::PeerId) override {
    ++num_disconnects;
    is_up = false;
  }
  void stop(const transport::StopOptions& options) override {
    is_stopped = true;
    stop_options = options;
  }

  // The other end.

  void answer(uint64_t incarnation = 1) {
    is_up = true;
    events_.peer_up(kPeer, {protocol::kProtocolVersion, incarnation, {}});
  }
  void lose(const std::string& reason) {
    is_up = false;
    events_.peer_down(kPeer, {ErrorCode::kUnavailable, reason});
  }
  void say(const protocol::Bytes& header, transport::Payload payload = {}) {
    if (is_up) events_.receive(kPeer, header, std::move(payload));
  }
  void say(const protocol::AssignExperts& assignment) {
    say(encode_header(assignment), transport::Payload::copy_of(encode_payload(assignment)));
  }
  /// What was sent since the last call, of one type; the rest is forgotten.
  std::vector<SentMessage> take(protocol::MessageType type) {
    std::vector<SentMessage> found;
    for (SentMessage& message : sent) {
      if (message.type() == type) found.push_back(std::move(message));
    }
    sent.clear();
    return found;
  }

  transport::Hello hello_of_worker;
  std::deque<SentMessage> sent;
  bool is_up = false;
  bool is_stopped = false;
  transport::StopOptions stop_options;
  int num_dials = 0;
  int num_disconnects = 0;

 private:
  transport::Events events_;
};

}  // namespace pregate::testing
