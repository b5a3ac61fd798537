// A worker alone, against a coordinator written by hand that may say anything.
#include "worker/worker.h"

#include <future>
#include <latch>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bounded_queue.h"
#include "base/random.h"
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
constexpr uint64_t kFingerprint = 42;

struct Message {
  Bytes header;
  Payload payload;
};

class WorkerTest : public ::testing::Test {
 protected:
  ~WorkerTest() override {
    if (worker_) worker_->stop();
    if (thread_.joinable()) thread_.join();
    coordinator_->stop({});
  }

  void start(WorkerOptions options = {}, uint32_t version = protocol::kProtocolVersion) {
    options.model_fingerprint = kFingerprint;
    transport::Events events;
    events.peer_up = [this](PeerId, const transport::Hello&) { up_.set_value(); };
    events.receive = [this](PeerId, std::span<const std::byte> header, Payload payload) {
      if (protocol::decode_type(header).value() == MessageType::kHeartbeat) return;
      messages_.try_push({{header.begin(), header.end()}, std::move(payload)});
    };
    coordinator_->start({version, 1, {}}, events);
    worker_ = std::make_unique<Worker>(
        *transport_, backend_,
        [](LayerIdx layer, ExpertId expert, compute::WeightFormat) {
          return pregate::testing::load_fake(layer, expert, kHidden);
        },
        options, probe_);
    thread_ = std::thread([this] { exit_status_ = worker_->run(); });
  }

  void start_and_load(const WorkerOptions& options = {}) {
    start(options);
    up_.get_future().wait();
    const protocol::AssignExperts assign{1, kFingerprint, 0, "m", {{LayerIdx(0), ExpertId(0), 4}}};
    send(encode_header(assign), Payload::copy_of(encode_payload(assign)));
    EXPECT_TRUE(protocol::decode_ready(next(MessageType::kReady).header));
  }

  void send(const Bytes& header, Payload payload = {}) {
    ASSERT_TRUE(coordinator_->send(PeerId(1), header, std::move(payload), {}));
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
    auto reply = protocol::decode_expert_reply(message.header, message.payload.bytes());
    EXPECT_TRUE(reply) << reply.error().message;
    return reply ? *reply : protocol::ExpertReply{};
  }

  transport::InprocHub hub_;
  std::unique_ptr<transport::Transport> coordinator_ = hub_.attach(PeerId(0));
  std::unique_ptr<transport::Transport> transport_ = hub_.attach(PeerId(1));
  FakeBackend backend_;
  Probe probe_;
  BoundedQueue<Message> messages_{10000};
  std::promise<void> up_;
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

TEST_F(WorkerTest, SurvivesAnyBytes) {
  start_and_load();
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    Bytes header(random.next_below(80));
    for (std::byte& byte : header) byte = std::byte(random.next_below(4));
    // Most with a type and layout that are known, so that the rest is looked at. No goodbye.
    if (header.size() >= 4 && i % 8 != 0) {
      header[0] = std::byte(2 + random.next_below(7));
      header[1] = header[3] = std::byte(0);
      header[2] = std::byte(1);
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

TEST_F(WorkerTest, RefusesAnotherCheckpoint) {
  start();
  up_.get_future().wait();
  const protocol::AssignExperts assign{1, kFingerprint + 1, 0, "other", {}};
  send(encode_header(assign), Payload::copy_of(encode_payload(assign)));
  const auto error = protocol::decode_error(next(MessageType::kError).header);
  ASSERT_TRUE(error);
  EXPECT_THAT(error->error.message, ::testing::HasSubstr("another checkpoint (other"));
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

TEST_F(WorkerTest, HeartbeatsGoOnWhileItComputes) {
  WorkerOptions options;
  options.heartbeat.interval = std::chrono::milliseconds(10);
  std::atomic<int> num_beats{0};
  transport::Events events;
  events.receive = [&](PeerId, std::span<const std::byte> header, Payload payload) {
    if (protocol::decode_type(header).value() == MessageType::kHeartbeat) {
      ++num_beats;
    } else {
      messages_.try_push({{header.begin(), header.end()}, std::move(payload)});
    }
  };
  events.peer_up = [this](PeerId, const transport::Hello&) { up_.set_value(); };
  std::latch release(1);
  backend_.before_experts = [&](size_t) { release.wait(); };
  coordinator_->start({protocol::kProtocolVersion, 1, {}}, events);
  options.model_fingerprint = kFingerprint;
  worker_ = std::make_unique<Worker>(
      *transport_, backend_,
      [](LayerIdx layer, ExpertId expert, compute::WeightFormat) {
        return pregate::testing::load_fake(layer, expert, kHidden);
      },
      options, probe_);
  thread_ = std::thread([this] { exit_status_ = worker_->run(); });
  up_.get_future().wait();
  // The measurement after loading is where it hangs.
  const protocol::AssignExperts assign{1, kFingerprint, 0, "m", {{LayerIdx(0), ExpertId(0), 1}}};
  send(encode_header(assign), Payload::copy_of(encode_payload(assign)));
  const int before = num_beats;
  while (num_beats < before + 5) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  release.count_down();
  EXPECT_FALSE(next(MessageType::kReady).header.empty());
  coordinator_->stop({});
}

}  // namespace
}  // namespace pregate::worker
