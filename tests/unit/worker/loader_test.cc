// Loading in the background, step by step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/stepped_worker.h"

namespace pregate::worker {
namespace {

using protocol::MessageType;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class Loading : public pregate::testing::SteppedWorker {
 protected:
  static protocol::ExpertRange range(uint32_t layer, uint32_t first, uint32_t count) {
    return {LayerIdx(layer), ExpertId(first), count};
  }
  /// A request of one row for one expert, in the order of `num_requests_`.
  void ask(uint32_t expert) {
    protocol::ExpertRequest request;
    request.request = RequestId(++num_requests_);
    request.budget_us = 10'000'000;
    request.num_rows = 1;
    request.cols = pregate::testing::kSteppedHidden;
    request.row_bytes = request.cols * 4;
    request.table = {{ExpertId(expert)}, {1}, {0}, {1.0f}};
    protocol::Bytes payload(protocol::row_data_offset(1, 1) + request.row_bytes);
    encode_table(request.table, payload.data());
    transport.say(encode_header(request), transport::Payload::copy_of(payload));
  }
  std::optional<protocol::ExpertReply> reply() {
    EXPECT_TRUE(worker->serve_next());
    const auto replies = transport.take(MessageType::kExpertReply);
    if (replies.empty()) return std::nullopt;
    return protocol::decode_expert_reply(replies[0].header, replies[0].payload.size()).value();
  }

  uint64_t num_requests_ = 0;
};

TEST_F(Loading, InTheOrderGiven) {
  start_and_join();
  assign(1, {range(1, 4, 2), range(0, 0, 1)});
  step();
  EXPECT_THAT(loads, ElementsAre(Pair(1, 4), Pair(1, 5), Pair(0, 0)));
  const auto holdings = last_holdings();
  ASSERT_TRUE(holdings);
  EXPECT_TRUE(holdings->complete);
  EXPECT_EQ(holdings->bytes, 3000u);
  EXPECT_THAT(holdings->ranges, ElementsAre(range(0, 0, 1), range(1, 4, 2)));
  EXPECT_EQ(probe.num_held, 3u);
}

TEST_F(Loading, AnExpertIsThereAsSoonAsItIsLoaded) {
  start_and_join();
  assign(1, {range(0, 0, 2)});
  worker->load_next();
  ask(0);
  auto answer = reply();
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->status);
  ask(1);
  answer = reply();
  ASSERT_TRUE(answer && !answer->status);
  EXPECT_EQ(answer->status.error().code, ErrorCode::kNotFound);
  worker->load_next();
  ask(1);
  answer = reply();
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->status);
}

TEST_F(Loading, DropsBeforeItLoadsAndKeepsWhatStays) {
  start_and_join();
  assign(1, {range(0, 0, 3)});
  step();
  loads.clear();
  assign(2, {range(0, 5, 1), range(0, 2, 1)});
  size_t held_before_loading = 0;
  load_hook = [&](LayerIdx, ExpertId) -> Status {
    held_before_loading = probe.num_held;
    return {};
  };
  step();
  EXPECT_EQ(held_before_loading, 1u);
  EXPECT_THAT(loads, ElementsAre(Pair(0, 5)));
  const auto holdings = last_holdings();
  ASSERT_TRUE(holdings);
  EXPECT_THAT(holdings->ranges, ElementsAre(range(0, 2, 1), range(0, 5, 1)));
  EXPECT_TRUE(holdings->complete);
  EXPECT_EQ(holdings->assignment, 2u);
}

TEST_F(Loading, OlderAssignmentsAreIgnored) {
  start_and_join();
  assign(5, {range(0, 0, 1)});
  step();
  assign(4, {range(0, 7, 1)});
  assign(5, {range(0, 8, 1)});
  step();
  EXPECT_THAT(loads, ElementsAre(Pair(0, 0)));
}

TEST_F(Loading, ANewerAssignmentSupersedesAtOnce) {
  start_and_join();
  assign(1, {range(0, 0, 100)}, 1000);
  worker->load_next();
  EXPECT_GT(worker->load_next(), clock.now());
  assign(2, {range(0, 50, 2)});
  step();
  EXPECT_THAT(loads, ElementsAre(Pair(0, 0), Pair(0, 50), Pair(0, 51)));
  const auto holdings = last_holdings();
  ASSERT_TRUE(holdings);
  EXPECT_THAT(holdings->ranges, ElementsAre(range(0, 50, 2)));
  EXPECT_TRUE(holdings->complete);
}

TEST_F(Loading, WhatIsSupersededWhileItLoadsIsNotKept) {
  start_and_join();
  assign(1, {range(0, 0, 2)});
  load_hook = [&](LayerIdx, ExpertId) -> Status {
    load_hook = nullptr;
    assign(2, {range(0, 1, 1)});
    return {};
  };
  step();
  EXPECT_THAT(loads, ElementsAre(Pair(0, 0), Pair(0, 1)));
  const auto holdings = last_holdings();
  ASSERT_TRUE(holdings);
  EXPECT_THAT(holdings->ranges, ElementsAre(range(0, 1, 1)));
}

TEST_F(Loading, NoFasterThanAllowed) {
  start_and_join();
  // Experts of 1000 bytes: ten a second.
  assign(1, {range(0, 0, 30)}, 10'000);
  step();
  EXPECT_EQ(loads.size(), 1u);
  pass_with_beats(seconds(1), 1000);
  EXPECT_EQ(loads.size(), 11u);
  pass_with_beats(seconds(2), 1000);
  EXPECT_EQ(loads.size(), 30u);
}

TEST_F(Loading, ReportsNowAndThenAndWhenItIsDone) {
  start_and_join();
  assign(1, {range(0, 0, 100)}, 100'000);  // one in 10 ms
  transport.sent.clear();
  size_t num_reports = 0;
  for (int i = 0; i < 110; ++i) {
    step();
    num_reports += transport.take(MessageType::kHoldings).size();
    clock.advance(milliseconds(10));
  }
  EXPECT_EQ(worker->stage(), Worker::Stage::kReady);
  EXPECT_GE(num_reports, 19u);
  EXPECT_LE(num_reports, 22u);
}

TEST_F(Loading, GoesOnWithoutACoordinator) {
  start_and_join();
  assign(1, {range(0, 0, 3)}, 10'000);
  step();
  transport.lose("cable pulled");
  pass(seconds(1));
  EXPECT_EQ(loads.size(), 3u);
}

TEST_F(Loading, AnErrorIsTriedAgain) {
  int num_failures = 3;
  load_hook = [&](LayerIdx, ExpertId expert) -> Status {
    if (expert == ExpertId(1) && num_failures-- > 0) {
      return fail(ErrorCode::kDataLoss, "part.safetensors: cannot be read");
    }
    return {};
  };
  start_and_join();
  assign(1, {range(0, 0, 3)});
  step();
  EXPECT_THAT(loads, ElementsAre(Pair(0, 0), Pair(0, 1)));
  pass_with_beats(milliseconds(990), 1000);
  EXPECT_EQ(loads.size(), 2u);
  pass_with_beats(milliseconds(20), 1000);
  EXPECT_EQ(loads.size(), 3u);
  pass_with_beats(seconds(3), 1000);
  EXPECT_FALSE(worker->is_over());
  EXPECT_EQ(worker->stage(), Worker::Stage::kReady);
  EXPECT_EQ(probe.num_load_failures, 3);
}

TEST_F(Loading, AnErrorThatStaysEndsTheWorkerAndSaysWhy) {
  load_hook = [](LayerIdx, ExpertId) -> Status {
    return fail(ErrorCode::kDataLoss, "part.safetensors: cannot be read");
  };
  start_and_join();
  assign(1, {range(2, 7, 1)});
  step();
  pass_with_beats(milliseconds(2900), 1000);
  EXPECT_FALSE(worker->is_over());
  pass_with_beats(milliseconds(200), 1000);
  EXPECT_TRUE(worker->is_over());
  EXPECT_EQ(loads.size(), 4u);
  transport.sent.clear();
  EXPECT_EQ(worker->finish(), 1);
  ASSERT_EQ(transport.sent.size(), 2u);
  EXPECT_EQ(transport.sent[1].type(), MessageType::kGoodbye);
  const auto error = protocol::decode_error(transport.sent[0].header);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->error.message, "w: layer 2 expert 7: part.safetensors: cannot be read");
}

TEST_F(Loading, FailuresOfWhatIsNotWantedAnyMoreAreForgotten) {
  bool broken = true;
  load_hook = [&](LayerIdx, ExpertId expert) -> Status {
    if (broken && expert == ExpertId(1)) return fail(ErrorCode::kDataLoss, "broken");
    return {};
  };
  start_and_join();
  assign(1, {range(0, 1, 1)});
  step();
  assign(2, {range(0, 2, 1)});
  step();
  EXPECT_EQ(worker->stage(), Worker::Stage::kReady);
  broken = false;
  assign(3, {range(0, 1, 1)});
  step();
  EXPECT_EQ(worker->stage(), Worker::Stage::kReady);
}

TEST_F(Loading, NeverHoldsMoreThanItsMemory) {
  options.session.capacity.memory_bytes = 3999;
  start_and_join();
  assign(1, {range(0, 0, 5)});
  EXPECT_EQ(worker->load_next(), clock.now());
  step();
  pass_with_beats(seconds(5), 1000);
  EXPECT_EQ(loads.size(), 3u);
  EXPECT_EQ(probe.num_waiting, 2u);
  EXPECT_EQ(worker->load_next(), TimePoint::max()) << "only another assignment helps";
  EXPECT_EQ(worker->stage(), Worker::Stage::kLoading);
  EXPECT_FALSE(last_holdings()->complete);
  // As when an expert moves away: one is dropped, and there is room for one.
  assign(2, {range(0, 1, 4)});
  step();
  EXPECT_EQ(loads.size(), 4u);
  EXPECT_EQ(probe.num_waiting, 1u);
  assign(3, {range(0, 2, 3)});
  step();
  EXPECT_EQ(worker->stage(), Worker::Stage::kReady);
  EXPECT_EQ(probe.num_waiting, 0u);
  EXPECT_EQ(probe.most_bytes, 3000u);
}

TEST_F(Loading, AnAssignmentThatFitsEndsTheWait) {
  options.session.capacity.memory_bytes = 3000;
  start_and_join();
  assign(1, {range(0, 0, 5)});
  step();
  EXPECT_EQ(probe.num_waiting, 2u);
  assign(2, {range(0, 0, 3)});
  step();
  EXPECT_EQ(probe.num_waiting, 0u);
  EXPECT_EQ(worker->stage(), Worker::Stage::kReady);
}

TEST_F(Loading, ADroppedExpertTakesMemoryUntilItIsComputed) {
  options.session.capacity.memory_bytes = 1000;
  start_and_join();
  assign(1, {range(0, 0, 1)});
  step();
  ask(0);
  backend.before_experts = [&](size_t) {
    assign(2, {range(0, 1, 1)});
    pass(seconds(1));
    EXPECT_EQ(probe.num_held, 0u);
    EXPECT_EQ(loads.size(), 1u);
    EXPECT_EQ(probe.num_waiting, 1u);
  };
  EXPECT_TRUE(reply()->status);
  pass(seconds(1));
  EXPECT_EQ(loads.size(), 2u);
  EXPECT_EQ(worker->stage(), Worker::Stage::kReady);
}

TEST_F(Loading, AnswersToAnEarlierConnectionAreNotSent) {
  start_and_join();
  assign(1, {range(0, 0, 1)});
  step();
  ask(0);
  // The connection goes while the request is computed.
  backend.before_experts = [&](size_t) {
    transport.lose("it died");
    pass(milliseconds(150));
    join(2);
    transport.sent.clear();
  };
  EXPECT_TRUE(worker->serve_next());
  EXPECT_TRUE(transport.take(MessageType::kExpertReply).empty());
  ask(0);
  backend.before_experts = nullptr;
  EXPECT_TRUE(reply()->status);
}

TEST(ExpertLoader, ADroppedExpertLivesUntilItIsComputed) {
  ExpertStore store(compute::WeightFormat::kF32);
  const ExpertKey key(LayerIdx(0), ExpertId(0));
  store.insert(key, pregate::testing::load_fake(key.first, key.second, 8).value());
  const auto used = store.find(key);
  EXPECT_EQ(store.keep_only({}), 1u);
  EXPECT_EQ(store.find(key), nullptr);
  EXPECT_EQ(store.bytes(), 0u);
  EXPECT_EQ(used->hidden_size(), 8u);
  EXPECT_EQ(store.bytes_in_memory(), 1000u);
}

TEST(ExpertStore, CountsWhatIsInMemory) {
  auto store = std::make_unique<ExpertStore>(compute::WeightFormat::kF32);
  for (uint32_t i = 0; i < 3; ++i) {
    store->insert({LayerIdx(0), ExpertId(i)},
                  pregate::testing::load_fake(LayerIdx(0), ExpertId(i), 8).value());
  }
  auto used = store->find({LayerIdx(0), ExpertId(1)});
  EXPECT_EQ(store->keep_only({{LayerIdx(0), ExpertId(2)}}), 2u);
  EXPECT_EQ(store->bytes(), 1000u);
  EXPECT_EQ(store->bytes_in_memory(), 2000u);
  used.reset();
  EXPECT_EQ(store->bytes_in_memory(), 1000u);
  used = store->find({LayerIdx(0), ExpertId(2)});
  store.reset();
  EXPECT_EQ(used->hidden_size(), 8u);
}

}  // namespace
}  // namespace pregate::worker
