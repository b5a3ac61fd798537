// A worker without threads, on a clock that a test moves, against a coordinator written by hand.
#pragma once

#include <optional>

#include <gtest/gtest.h>

#include "tests/unit/worker/fake_backend.h"
#include "tests/unit/worker/hand_transport.h"
#include "tests/unit/worker/manual_clock.h"
#include "worker/worker.h"

namespace pregate::testing {

inline constexpr size_t kSteppedHidden = 8;
inline constexpr uint64_t kFingerprintOfModel = 42;

/// Counts what it is told.
struct CountingWorkerProbe final : worker::Probe {
  void expert_loaded(size_t, Duration) override { ++num_loads; }
  void load_failed() override { ++num_load_failures; }
  void holds(size_t experts, size_t bytes) override {
    num_held = experts;
    most_bytes = std::max(most_bytes, bytes);
  }
  void waits_for_room(size_t experts) override { num_waiting = experts; }
  void joined(bool joined) override { is_joined = joined; }
  void rejoined() override { ++num_rejoins; }
  int num_loads = 0, num_load_failures = 0, num_rejoins = 0;
  size_t num_held = 0, num_waiting = 0, most_bytes = 0;
  bool is_joined = false;
};

class SteppedWorker : public ::testing::Test {
 protected:
  SteppedWorker() {
    options.session.name = "w";
    options.session.host = "here";
    options.session.secret = protocol::Secret("a secret of the cluster");
    options.session.model_fingerprint = kFingerprintOfModel;
    options.session.capacity = {1000, 1 << 20, 1000, 4, "fake"};
    options.session.reconnect = true;
  }

  void start() {
    worker.emplace(
        worker::WorkerParts{transport, backend,
                            [this](LayerIdx layer, ExpertId expert) { return load(layer, expert); },
                            clock, random, probe},
        options);
    worker->start();
    step();
  }
  void start_and_join() {
    start();
    join();
  }
  /// The coordinator answers the dialling and lets the worker in.
  void join(uint64_t incarnation = 1) {
    transport.answer(incarnation);
    transport.say(encode_header(challenge));
    welcome(options.session.secret);
  }
  void welcome(const protocol::Secret& secret) {
    const auto joins = transport.take(protocol::MessageType::kJoin);
    ASSERT_EQ(joins.size(), 1u);
    last_join = protocol::decode_join(joins[0].header).value();
    const WorkerId id(5);
    const auto proof = prove_coordinator(secret, challenge.nonce, last_join, id);
    transport.say(encode_header(protocol::Welcome{proof, id}));
  }
  /// Everything that is due now.
  void step() {
    while (!worker->is_over() && worker->load_next() <= clock.now()) {
    }
    worker->tick();
  }
  /// Lets time pass in small pieces.
  void pass(Duration time) {
    constexpr Duration kPiece = std::chrono::milliseconds(10);
    for (Duration passed{}; passed < time; passed += kPiece) {
      clock.advance(kPiece);
      step();
    }
  }
  /// The same, while the coordinator is heard.
  void pass_with_beats(Duration time, uint64_t revision_seen) {
    constexpr Duration kInterval = std::chrono::milliseconds(250);
    for (Duration passed{}; passed < time; passed += kInterval) {
      beat(revision_seen);
      pass(std::min(kInterval, time - passed));
    }
  }
  void beat(uint64_t revision_seen) {
    transport.say(encode_header(protocol::Heartbeat{.sequence = 1, .revision = revision_seen}));
  }
  void assign(uint64_t number, std::vector<protocol::ExpertRange> ranges, uint64_t rate = 0) {
    transport.say(protocol::AssignExperts{number, rate, std::move(ranges)});
  }
  /// The last Holdings sent; all that was sent is forgotten.
  std::optional<protocol::Holdings> last_holdings() {
    const auto messages = transport.take(protocol::MessageType::kHoldings);
    if (messages.empty()) return std::nullopt;
    return protocol::decode_holdings(messages.back().header, messages.back().payload.bytes())
        .value();
  }

  Result<std::unique_ptr<compute::PackedExpert>> load(LayerIdx layer, ExpertId expert) {
    loads.emplace_back(layer.value, expert.value);
    if (load_hook) PREGATE_TRY(load_hook(layer, expert));
    return load_fake(layer, expert, kSteppedHidden);
  }

  worker::WorkerOptions options;
  HandTransport transport;
  FakeBackend backend;
  ManualClock clock;
  Random random{7};
  CountingWorkerProbe probe;
  std::function<Status(LayerIdx, ExpertId)> load_hook;
  std::vector<std::pair<uint32_t, uint32_t>> loads;
  protocol::Challenge challenge{protocol::make_nonce()};
  protocol::Join last_join;
  std::optional<worker::Worker> worker;
};

}  // namespace pregate::testing
