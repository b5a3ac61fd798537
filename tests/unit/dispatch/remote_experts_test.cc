// RemoteExperts against workers written by hand, which may answer anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bounded_queue.h"
#include "tests/support/device_memories.h"
#include "tests/unit/dispatch/test_cluster.h"

namespace pregate::testing {
namespace {

using coordinator::Share;
using coordinator::split_batch;
using protocol::MessageType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using transport::Payload;
using transport::PeerId;

TEST(SplitBatch, SendsEachWorkerOnlyItsRows) {
  const compute::EncodedRows rows{compute::WeightFormat::kF32, 3, kHidden, nullptr};
  const std::vector<ExpertId> experts{ExpertId(5), ExpertId(0), ExpertId(7),
                                      ExpertId(6), ExpertId(5), ExpertId(1)};
  const std::vector<float> gates{1, 2, 3, 4, 5, 6};
  const engine::ExpertBatch batch{1, LayerIdx(0), rows, 2, experts, gates};
  const auto shares = split_batch(batch, [](ExpertId expert) -> std::optional<WorkerId> {
    return WorkerId(expert.value < 5 ? 1 : 2);
  });
  ASSERT_EQ(shares.size(), 2u);
  const Share& first = shares[0];
  EXPECT_EQ(first.worker, WorkerId(1));
  EXPECT_THAT(first.batch_rows, ElementsAre(0, 2));
  EXPECT_THAT(first.table.experts, ElementsAre(ExpertId(0), ExpertId(1)));
  EXPECT_THAT(first.table.rows, ElementsAre(0, 1));
  EXPECT_THAT(first.table.gates, ElementsAre(2, 6));
  const Share& second = shares[1];
  EXPECT_THAT(second.batch_rows, ElementsAre(0, 1, 2));
  EXPECT_THAT(second.table.experts, ElementsAre(ExpertId(5), ExpertId(6), ExpertId(7)));
  EXPECT_THAT(second.table.counts, ElementsAre(2, 1, 1));
  EXPECT_THAT(second.table.rows, ElementsAre(0, 2, 1, 1));
  EXPECT_THAT(second.table.gates, ElementsAre(1, 5, 4, 3));
}

TEST(SplitBatch, WhatNobodyHoldsComesFirst) {
  const TestBatch batch(1, 9, 3, LayerIdx(0));
  const auto only_small = [](ExpertId expert) -> std::optional<WorkerId> {
    if (expert.value < 6) return WorkerId(expert.value % 2);
    return std::nullopt;
  };
  const auto shares = split_batch(batch.view(), only_small);
  ASSERT_EQ(shares.size(), 3u);
  EXPECT_EQ(shares[0].worker, std::nullopt);
  size_t num_entries = 0;
  for (const Share& share : shares) num_entries += share.table.rows.size();
  EXPECT_EQ(num_entries, 27u);
}

/// Splitting in two steps gives what one step gives.
TEST(SplitBatch, AShareIsSplitAsTheBatchIs) {
  const TestBatch batch(2, 20, 4, LayerIdx(1));
  const auto by_worker = [](ExpertId expert) -> std::optional<WorkerId> {
    return WorkerId(expert.value % 3);
  };
  const auto at_once = split_batch(batch.view(), by_worker);
  const auto whole = split_batch(batch.view(), [](ExpertId) { return std::nullopt; });
  ASSERT_EQ(whole.size(), 1u);
  const auto in_two_steps = split_share(whole[0], by_worker);
  ASSERT_EQ(at_once.size(), in_two_steps.size());
  for (size_t i = 0; i < at_once.size(); ++i) {
    EXPECT_EQ(at_once[i].worker, in_two_steps[i].worker);
    EXPECT_EQ(at_once[i].batch_rows, in_two_steps[i].batch_rows);
    EXPECT_EQ(at_once[i].table.experts, in_two_steps[i].table.experts);
    EXPECT_EQ(at_once[i].table.counts, in_two_steps[i].table.counts);
    EXPECT_EQ(at_once[i].table.rows, in_two_steps[i].table.rows);
    EXPECT_EQ(at_once[i].table.gates, in_two_steps[i].table.gates);
  }
}

/// A cluster with one worker, which the test plays.
class Scripted : public ::testing::Test {
 protected:
  explicit Scripted(Duration expert_wait = std::chrono::seconds(60)) : cluster_(1) {
    transport::Events events;
    events.receive = [this](PeerId, std::span<const std::byte> header, Payload payload) {
      play(header, payload);
    };
    cluster_.options.membership.suspect_after = std::chrono::minutes(5);  // no heartbeats here
    cluster_.options.membership.dead_after = std::chrono::minutes(6);
    worker_ = std::move(cluster_.workers[0]->transport);
    worker_->start({protocol::kProtocolVersion, 5, protocol::encode_hello_info({})}, events);
    worker_->connect(PeerId(0));
    const Status started =
        cluster_.start_coordinator({.timeout_per_row = {}, .expert_wait = expert_wait});
    EXPECT_TRUE(started) << started.error().message;
  }
  ~Scripted() override {
    cluster_.experts.reset();
    cluster_.ticker.reset();
    cluster_.cluster->stop();
    worker_->stop({});
  }

  /// Joins, holds what it is assigned, and keeps the requests for the test to answer.
  void play(std::span<const std::byte> header, const Payload& payload) {
    switch (protocol::decode_type(header).value()) {
      case MessageType::kChallenge: {
        auto session = test_session(1);
        session.capacity.wants_plans = true;
        protocol::Join join{.incarnation = 5,
                            .model_fingerprint = session.model_fingerprint,
                            .weight_format = static_cast<uint8_t>(session.weight_format),
                            .capacity = session.capacity,
                            .name = session.name,
                            .host = "here"};
        const auto challenge = protocol::decode_challenge(header).value();
        join.proof = protocol::prove_worker(session.secret, challenge.nonce, join);
        send(encode_header(join));
        return hold({}, 0);
      }
      case MessageType::kAssignExperts: {
        const auto assign = protocol::decode_assign_experts(header, payload.bytes()).value();
        return hold(assign.ranges, assign.assignment);
      }
      case MessageType::kExpertRequest:
        requests_.try_push(protocol::decode_expert_request(header, payload.bytes()).value());
        return;
      case MessageType::kExpertPlan:
        plans_.try_push(protocol::decode_expert_plan(header, payload.bytes()).value());
        return;
      case MessageType::kGoodbye:
        return send(encode_header(protocol::Goodbye{}));
      default:
        return;
    }
  }
  void hold(const std::vector<protocol::ExpertRange>& ranges, uint64_t assignment) {
    const protocol::Holdings holdings{.revision = ++revision_,
                                      .assignment = assignment,
                                      .bytes = 1,
                                      .complete = true,
                                      .ranges = ranges};
    send(encode_header(holdings), Payload::copy_of(encode_payload(holdings)));
  }

  void send(const protocol::Bytes& header, Payload payload = {}) {
    EXPECT_TRUE(worker_->send(PeerId(0), header, std::move(payload), {}));
  }
  engine::DispatchTicket dispatch() { return cluster_.experts->dispatch(batch_.view()).value(); }
  Status combine(engine::DispatchTicket ticket) {
    const auto homeless =
        cluster_.experts->combine(ticket, {out_.data(), batch_.num_rows(), kHidden});
    PREGATE_TRY(homeless);
    EXPECT_TRUE(homeless->empty());
    return {};
  }
  /// A good reply to the request that the worker got.
  protocol::ExpertReply reply_to_request() {
    protocol::ExpertReply reply;
    reply.request = requests_.pop_for(std::chrono::seconds(20)).value().request;
    reply.num_rows = static_cast<uint32_t>(batch_.num_rows());
    reply.cols = kHidden;
    return reply;
  }
  Payload ones() const {
    const std::vector<float> values(batch_.rows.size(), 1.0f);
    return Payload::copy_of(std::as_bytes(std::span(values)));
  }
  void wait_for_late(size_t count) {
    while (cluster_.probe.num_late < count) std::this_thread::yield();
  }

  TestCluster cluster_;
  uint64_t revision_ = 0;  // the transport's thread
  std::unique_ptr<transport::Transport> worker_;
  BoundedQueue<protocol::ExpertRequest> requests_{100};
  BoundedQueue<protocol::ExpertPlan> plans_{100};
  const TestBatch batch_{1, 4, 2, LayerIdx(0)};
  std::vector<float> out_ = std::vector<float>(batch_.rows.size());
};

TEST_F(Scripted, DuplicateAndStrayRepliesAreDropped) {
  const auto ticket = dispatch();
  const auto reply = reply_to_request();
  send(encode_header(reply), ones());
  send(encode_header(reply), ones());
  auto stray = reply;
  stray.request = RequestId(987654321);
  send(encode_header(stray), ones());
  wait_for_late(2);
  ASSERT_TRUE(combine(ticket));
  EXPECT_EQ(out_, std::vector<float>(out_.size(), 1.0f));
  // Again after it was combined.
  send(encode_header(reply), ones());
  wait_for_late(3);
}

TEST_F(Scripted, AWorkerThatWantsPlansIsToldWhatConcernsIt) {
  cluster_.experts->expect({}, 5);  // Nothing to say.
  cluster_.experts->expect(
      {{LayerIdx(1), ExpertId(3), 7, true, 0.5f},
       {LayerIdx(2), ExpertId(4), 8, false, 0.25f},
       {LayerIdx(2), ExpertId(5), 4, true, 1.0f},                  // has passed
       {LayerIdx(2), ExpertId(kNumExperts - 1), 9, false, 2.0f}},  // no likelihood
      5);
  const auto plan = plans_.pop_for(std::chrono::seconds(20)).value();
  EXPECT_EQ(plan.now, 5u);
  ASSERT_EQ(plan.experts.size(), 3u);
  EXPECT_EQ(plan.experts[0].layer, LayerIdx(1));
  EXPECT_EQ(plan.experts[0].expert, ExpertId(3));
  EXPECT_EQ(plan.experts[0].ahead, 2u);
  EXPECT_TRUE(plan.experts[0].certain);
  EXPECT_EQ(plan.experts[0].likelihood, 1.0f);
  EXPECT_EQ(plan.experts[1].ahead, 3u);
  EXPECT_FALSE(plan.experts[1].certain);
  EXPECT_EQ(plan.experts[1].likelihood, 0.25f);
  EXPECT_EQ(plan.experts[2].likelihood, 1.0f);
}

TEST_F(Scripted, AnErrorOfAWorkerCarriesItsName) {
  const auto ticket = dispatch();
  auto reply = reply_to_request();
  reply.status = fail(ErrorCode::kInvalidArgument, "rows of format 7 do not fit the experts");
  send(encode_header(reply));
  const Status status = combine(ticket);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(status.error().message, HasSubstr("worker-1"));
  EXPECT_THAT(status.error().message, HasSubstr("do not fit"));
}

/// What may pass is asked again.
TEST_F(Scripted, ARefusalIsFollowedByAnotherTry) {
  for (const ErrorCode code : {ErrorCode::kNotFound, ErrorCode::kResourceExhausted,
                               ErrorCode::kDeadlineExceeded, ErrorCode::kUnavailable}) {
    const auto ticket = dispatch();
    std::thread script([&] {
      auto reply = reply_to_request();
      reply.status = fail(code, "not now");
      send(encode_header(reply));
      send(encode_header(reply_to_request()), ones());
    });
    const Status status = combine(ticket);
    script.join();
    EXPECT_TRUE(status) << status.error().message;
  }
  EXPECT_EQ(cluster_.probe.num_resent, 4u);
}

class Impatient : public Scripted {
 protected:
  Impatient() : Scripted(std::chrono::milliseconds(300)) {}
};

TEST_F(Impatient, SilenceEndsAfterTheWait) {
  const auto ticket = dispatch();
  const Status status = combine(ticket);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("worker-1 (here:0) did not answer layer 0"));
}

TEST_F(Scripted, AnAnswerOfTheWrongSizeIsRefused) {
  const auto ticket = dispatch();
  auto reply = reply_to_request();
  reply.num_rows = 2;
  const std::vector<float> values(2 * kHidden);
  send(encode_header(reply), Payload::copy_of(std::as_bytes(std::span(values))));
  const Status status = combine(ticket);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kDataLoss);
}

/// A tail of an answer is all of it: what is before would be taken for rows as well.
TEST_F(Scripted, AnAnswerInTwoPiecesIsRefused) {
  const auto ticket = dispatch();
  const auto reply = reply_to_request();
  const Payload rows = ones();
  const auto memory = std::make_shared<transport::ScrambledMemory>();
  send(encode_header(reply),
       with_tail(memory, rows.slice(0, kHidden * 4), rows.bytes().subspan(kHidden * 4)));
  const Status status = combine(ticket);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kDataLoss);
  EXPECT_THAT(status.error().message, HasSubstr("worker-1"));
  while (memory->used_bytes() > 0) std::this_thread::yield();  // nobody keeps it
}

TEST_F(Scripted, ATailWhereNoneBelongsCutsTheWorkerOff) {
  const std::array<std::byte, 12> range{};
  const protocol::Holdings holdings{.revision = 99, .ranges = {{LayerIdx(0), ExpertId(0), 1}}};
  send(encode_header(holdings),
       with_tail(std::make_shared<transport::ScrambledMemory>(), {}, range));
  cluster_.wait_for(1, coordinator::WorkerState::kDead);
}

/// A worker that sends what no worker sends is cut off; nothing else happens.
TEST_F(Scripted, SurvivesAnyBytes) {
  Random random(3);
  protocol::Bytes header(random.next_below(80));
  for (std::byte& byte : header) byte = std::byte(random.next_below(4));
  send(header, Payload::copy_of(protocol::Bytes(random.next_below(200))));
  cluster_.wait_for(1, coordinator::WorkerState::kDead);
  EXPECT_FALSE(cluster_.cluster->health());
}

}  // namespace
}  // namespace pregate::testing
