// A worker with its threads over UCX, whose coordinator goes away and comes back.
#include "transport/ucx/ucx.h"

#include <thread>

#include <gtest/gtest.h>

#include "base/bounded_queue.h"
#include "tests/unit/worker/fake_backend.h"
#include "worker/worker.h"

namespace pregate::worker {
namespace {

using protocol::Holdings;
using protocol::MessageType;
using transport::Payload;
using transport::PeerId;

const protocol::Secret kSecret("a secret of the cluster");

/// Lets in whoever knows the secret, and tells everyone to hold the same.
class Coordinator {
 public:
  Coordinator(const std::string& address, uint32_t num_experts) : num_experts_(num_experts) {
    transport_ = transport::make_ucx_transport({.listen = address}).value();
    transport::Events events;
    events.peer_up = [this](PeerId peer, const transport::Hello&) {
      challenge_.nonce = protocol::make_nonce();
      send(peer, encode_header(challenge_));
    };
    events.receive = [this](PeerId peer, std::span<const std::byte> header,
                            const Payload& payload) { take(peer, header, payload); };
    transport_->start({protocol::kProtocolVersion, seed_from_system(), {}}, events);
  }
  ~Coordinator() { transport_->stop({}); }

  std::string address() const { return transport_->listen_address(); }
  void say_goodbye() { send(worker_, encode_header(protocol::Goodbye{})); }
  /// The first Holdings since the last call that are complete.
  Holdings wait_until_complete() {
    for (;;) {
      const auto next = holdings_.pop_for(std::chrono::seconds(20));
      if (!next || next->complete) return next.value_or(Holdings{});
    }
  }

  std::atomic<uint64_t> joined_incarnation{0};

 private:
  void send(PeerId peer, const protocol::Bytes& header, Payload payload = {}) {
    (void)transport_->send(peer, header, std::move(payload), {});
  }
  void take(PeerId peer, std::span<const std::byte> header, const Payload& payload) {
    const MessageType type = protocol::decode_type(header).value();
    if (type == MessageType::kHoldings) {
      holdings_.try_push(protocol::decode_holdings(header, payload.bytes()).value());
    }
    if (type != MessageType::kJoin) return;
    const auto join = protocol::decode_join(header).value();
    if (join.proof != prove_worker(kSecret, challenge_.nonce, join)) return;
    worker_ = peer;
    joined_incarnation = join.incarnation;
    const WorkerId id(1);
    send(peer, encode_header(
                   protocol::Welcome{prove_coordinator(kSecret, challenge_.nonce, join, id), id}));
    const protocol::AssignExperts all{1, 0, {{LayerIdx(0), ExpertId(0), num_experts_}}};
    send(peer, encode_header(all), Payload::copy_of(encode_payload(all)));
  }

  const uint32_t num_experts_;
  std::unique_ptr<transport::UcxTransport> transport_;
  // The transport's thread.
  protocol::Challenge challenge_;
  std::atomic<PeerId> worker_;
  BoundedQueue<Holdings> holdings_{1000};
};

TEST(WorkerOverUcx, OutlivesItsCoordinator) {
  auto coordinator = std::make_unique<Coordinator>("127.0.0.1:0", 3);
  const std::string address = coordinator->address();
  auto ucx =
      transport::make_ucx_transport({.self = PeerId(1), .addresses = {{PeerId(0), address}}});
  ASSERT_TRUE(ucx) << ucx.error().message;
  pregate::testing::FakeBackend backend;
  Probe probe;
  Random random(1);
  std::atomic<int> num_loads{0};
  WorkerOptions options;
  options.session.secret = kSecret;
  options.session.reconnect = true;
  options.session.capacity = {.memory_bytes = 3000, .expert_bytes = 1000, .backend = "fake"};
  const auto read = [&](LayerIdx layer, ExpertId expert) {
    ++num_loads;
    return pregate::testing::load_fake(layer, expert, 8);
  };
  Worker worker({**ucx, backend, read, system_clock(), random, probe}, options);
  int exit_status = -1;
  std::thread thread([&] { exit_status = worker.run(); });

  EXPECT_EQ(coordinator->wait_until_complete().ranges.size(), 1u);
  const uint64_t incarnation = coordinator->joined_incarnation;
  for (int restart = 0; restart < 3; ++restart) {
    coordinator.reset();
    coordinator = std::make_unique<Coordinator>(address, 3);
    EXPECT_EQ(coordinator->wait_until_complete().ranges.size(), 1u);
    EXPECT_EQ(coordinator->joined_incarnation, incarnation);
  }
  EXPECT_EQ(num_loads, 3);
  coordinator->say_goodbye();
  thread.join();
  EXPECT_EQ(exit_status, 0);
}

}  // namespace
}  // namespace pregate::worker
