// A worker alone, against a coordinator written by hand that may say anything.
#include "worker/worker.h"

#include <future>
#include <latch>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bounded_queue.h"
#include "base/random.h"
#include "tests/support/device_memories.h"
#include "tests/unit/worker/fake_backend.h"
#include "transport/inproc/hub.h"

namespace pregate::worker {
namespace {

using pregate::testing::FakeBackend;
using protocol::Bytes;
using protocol::MessageType;
using transport::Payload;
using transport::PeerId;

constexpr size_t kHidden = 8;

struct Message {
  Bytes header;
  Payload payload;
};

bool ends_worker(MessageType type) {
  return type == MessageType::kGoodbye || type == MessageType::kRefusal;
}

class WorkerTest : public ::testing::Test {
 protected:
  ~WorkerTest() override {
    if (worker_) worker_->stop();
    if (thread_.joinable()) thread_.join();
    coordinator_->stop({});
  }

  void start(WorkerOptions options = {}, uint32_t version = protocol::kProtocolVersion) {
    transport::Events events;
    events.peer_up = [this](PeerId, const transport::Hello&) { send(encode_header(challenge_)); };
    events.receive = [this](PeerId, std::span<const std::byte> header, Payload payload) {
      take({{header.begin(), header.end()}, std::move(payload)});
    };
    coordinator_->start({version, 1, {}}, events);
    const WorkerParts parts{*transport_,
                            backend_,
                            [this](LayerIdx layer, ExpertId expert) { return load(layer, expert); },
                            system_clock(),
                            random_,
                            probe_};
    options.session.capacity = {.memory_bytes = 1 << 20, .expert_bytes = 1000, .backend = "fake"};
    worker_ = std::make_unique<Worker>(parts, options);
    thread_ = std::thread([this] { exit_status_ = worker_->run(); });
  }

  void take(Message message) {
    switch (protocol::decode_type(message.header).value()) {
      case MessageType::kHeartbeat:
        ++num_beats_;
        return;
      case MessageType::kJoin: {
        const auto join = protocol::decode_join(message.header).value();
        const WorkerId id(1);
        send(encode_header(
            protocol::Welcome{prove_coordinator({}, challenge_.nonce, join, id), id}));
        joined_.set_value();
        return;
      }
      default:
        messages_.try_push(std::move(message));
    }
  }

  Result<std::unique_ptr<compute::PackedExpert>> load(LayerIdx layer, ExpertId expert) {
    if (before_load_) before_load_(expert);
    return pregate::testing::load_fake(layer, expert, kHidden);
  }

  void start_and_join(const WorkerOptions& options = {}) {
    start(options);
    joined_.get_future().wait();
  }

  void assign(uint64_t number, uint32_t num_experts) {
    const protocol::AssignExperts assign{number, 0, {{LayerIdx(0), ExpertId(0), num_experts}}};
    send(encode_header(assign), Payload::copy_of(encode_payload(assign)));
  }

  void wait_until_complete(uint64_t number) {
    for (;;) {
      const Message message = next(MessageType::kHoldings);
      ASSERT_FALSE(message.header.empty());
      const auto holdings = protocol::decode_holdings(message.header, message.payload.bytes());
      ASSERT_TRUE(holdings);
      if (holdings->complete && holdings->assignment == number) return;
    }
  }

  void start_and_load(const WorkerOptions& options = {}) {
    start_and_join(options);
    assign(1, 4);
    wait_until_complete(1);
  }

  void send(const Bytes& header, Payload payload = {}) {
    EXPECT_TRUE(coordinator_->send(PeerId(1), header, std::move(payload), {}));
  }

  void send_request(uint64_t id, uint32_t expert = 0) {
    protocol::ExpertRequest request;
    request.request = RequestId(id);
    request.budget_us = 10'000'000;
    request.num_rows = 1;
    request.cols = kHidden;
    request.row_bytes = kHidden * 4;
    request.table = {{ExpertId(expert)}, {1}, {0}, {1.0f}};
    Bytes payload(protocol::row_data_offset(1, 1) + request.row_bytes);
    encode_table(request.table, payload.data());
    send(encode_header(request), Payload::copy_of(payload));
  }

  /// The next message of this type; others are dropped.
  Message next(MessageType type) {
    for (;;) {
      auto message = messages_.pop_for(std::chrono::seconds(20));
      if (!message) return {};
      if (protocol::decode_type(message->header).value() == type) return std::move(*message);
    }
  }
  protocol::ExpertReply next_reply() {
    const Message message = next(MessageType::kExpertReply);
    auto reply = protocol::decode_expert_reply(message.header, message.payload.size());
    EXPECT_TRUE(reply) << reply.error().message;
    return reply ? *reply : protocol::ExpertReply{};
  }

  transport::InprocHub hub_;
  std::unique_ptr<transport::Transport> coordinator_ = hub_.attach(PeerId(0));
  std::unique_ptr<transport::Transport> transport_ = hub_.attach(PeerId(1));
  FakeBackend backend_;
  std::function<void(ExpertId)> before_load_;
  Probe probe_;
  Random random_{1};
  const protocol::Challenge challenge_{protocol::make_nonce()};
  BoundedQueue<Message> messages_{10000};
  std::promise<void> joined_;
  std::atomic<int> num_beats_{0};
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
  int exit_status_ = -1;
};

TEST_F(WorkerTest, AnswersADuplicateLikeTheFirst) {
  start_and_load();
  send_request(5);
  const Message first = next(MessageType::kExpertReply);
  send_request(5);
  const Message second = next(MessageType::kExpertReply);
  const auto a = first.payload.bytes();
  const auto b = second.payload.bytes();
  ASSERT_EQ(a.size(), kHidden * 4);
  EXPECT_TRUE(std::ranges::equal(a, b));
}

TEST_F(WorkerTest, ATailWhereNoneBelongsIsRefused) {
  start_and_join();
  const protocol::AssignExperts assignment{1, 0, {{LayerIdx(0), ExpertId(0), 4}}};
  send(encode_header(assignment),
       with_tail(std::make_shared<transport::ScrambledMemory>(), {}, encode_payload(assignment)));
  assign(2, 3);
  wait_until_complete(2);
}

TEST_F(WorkerTest, SurvivesAnyBytes) {
  start_and_load();
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    Bytes header(random.next_below(80));
    for (std::byte& byte : header) byte = std::byte(random.next_below(4));
    // Most with a type and layout that are known, so that the rest is looked at. No goodbye.
    if (header.size() >= 4 && i % 8 != 0) {
      header[0] = std::byte(2 + random.next_below(13));
      header[1] = header[3] = std::byte(0);
      header[2] = std::byte(protocol::kProtocolVersion);
      if (ends_worker(MessageType(header[0]))) continue;
    }
    Bytes payload(random.next_below(200));
    for (std::byte& byte : payload) byte = std::byte(random.next_below(8));
    send(header, Payload::copy_of(payload));
  }
  send_request(7777, 3);
  for (;;) {
    const auto reply = next_reply();
    if (reply.request != RequestId(7777)) continue;
    EXPECT_TRUE(reply.status) << reply.status.error().message;
    break;
  }
}

TEST_F(WorkerTest, AFullQueueIsAnsweredAtOnce) {
  WorkerOptions options;
  options.max_queued_requests = 1;
  start_and_load(options);
  std::promise<void> computing;
  std::latch release(1);
  std::atomic<bool> first{true};
  backend_.before_experts = [&](size_t) {
    if (!first.exchange(false)) return;
    computing.set_value();
    release.wait();
  };
  send_request(1);
  computing.get_future().wait();
  send_request(2);
  send_request(3);
  const auto refused = next_reply();
  EXPECT_EQ(refused.request, RequestId(3));
  ASSERT_FALSE(refused.status);
  EXPECT_EQ(refused.status.error().code, ErrorCode::kResourceExhausted);
  release.count_down();
  EXPECT_EQ(next_reply().request, RequestId(1));
  EXPECT_EQ(next_reply().request, RequestId(2));
}

TEST_F(WorkerTest, LeavesOnGoodbye) {
  start_and_load();
  send(encode_header(protocol::Goodbye{}));
  EXPECT_FALSE(next(MessageType::kGoodbye).header.empty());
  thread_.join();
  EXPECT_EQ(exit_status_, 0);
}

TEST_F(WorkerTest, LeavesWithAnErrorIfTheCoordinatorSpeaksAnotherVersion) {
  start({}, protocol::kProtocolVersion + 1);
  thread_.join();
  EXPECT_EQ(exit_status_, 1);
}

TEST_F(WorkerTest, HeartbeatsGoOnWhileItComputesAndLoads) {
  WorkerOptions options;
  options.session.heartbeat_interval = std::chrono::milliseconds(10);
  const auto wait_for_beats = [&] {
    const int before = num_beats_;
    while (num_beats_ < before + 5) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  start_and_load(options);
  std::latch computing(1), loading(1);
  backend_.before_experts = [&](size_t) { computing.wait(); };
  before_load_ = [&](ExpertId) { loading.wait(); };
  send_request(1);
  wait_for_beats();
  assign(2, 5);
  wait_for_beats();
  computing.count_down();
  EXPECT_EQ(next_reply().request, RequestId(1));
  loading.count_down();
  wait_until_complete(2);
}

TEST_F(WorkerTest, ServesWhileItLoads) {
  start_and_load();
  std::latch loading(1);
  before_load_ = [&](ExpertId) { loading.wait(); };
  assign(2, 6);
  for (uint64_t id = 1; id <= 20; ++id) {
    send_request(id, 3);
    const auto reply = next_reply();
    EXPECT_EQ(reply.request, RequestId(id));
    EXPECT_TRUE(reply.status);
  }
  send_request(21, 5);
  const auto reply = next_reply();
  ASSERT_FALSE(reply.status);
  EXPECT_EQ(reply.status.error().code, ErrorCode::kNotFound);
  loading.count_down();
  wait_until_complete(2);
  send_request(22, 5);
  EXPECT_TRUE(next_reply().status);
}

TEST_F(WorkerTest, StopsWhileItLoadsSlowly) {
  start_and_join();
  const protocol::AssignExperts assign{1, 1, {{LayerIdx(0), ExpertId(0), 4}}};
  send(encode_header(assign), Payload::copy_of(encode_payload(assign)));
  while (worker_->stage() != Worker::Stage::kLoading) std::this_thread::yield();
  worker_->stop();
  thread_.join();
  EXPECT_EQ(exit_status_, 0);
}

}  // namespace
}  // namespace pregate::worker
