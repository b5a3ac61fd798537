#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/placement/balancer_fixture.h"

namespace pregate::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using enum Presence;

using Balancer = BalancerFixture;

TEST_F(Balancer, WaitsUntilWorkersHaveStoppedJoining) {
  EXPECT_THAT(after(seconds(60)), IsEmpty());
  workers({1});
  EXPECT_THAT(after(seconds(1)), IsEmpty());
  workers({2});
  EXPECT_THAT(after(seconds(1)), IsEmpty());
  EXPECT_THAT(after(milliseconds(1999)), IsEmpty());
  EXPECT_THAT(retargets(after(milliseconds(1))), ElementsAre(BalanceReason::kFirst));
  EXPECT_EQ(state_.target->version(), 1u);
  EXPECT_EQ(num_wanted(1), 12u);
  EXPECT_EQ(num_wanted(2), 12u);
}

TEST_F(Balancer, BeginsAtOnceWhereAllAreKnownToBeHere) {
  options_.first_settle = {};
  workers({1, 2});
  EXPECT_THAT(retargets(after({})), ElementsAre(BalanceReason::kFirst));
}

TEST_F(Balancer, SaysHowTheLoadingGoes) {
  options_.first_settle = {};
  workers({1, 2});
  after({});
  EXPECT_TRUE(state_.moving);
  EXPECT_EQ(state_.num_left, 24u);
  held_[WorkerId(1)] = wanted(WorkerId(1));
  EXPECT_THAT(after(seconds(1)), IsEmpty());
  EXPECT_EQ(state_.num_left, 12u);
  load();
  const auto ended = endings(after(seconds(2)));
  ASSERT_THAT(ended, SizeIs(1));
  EXPECT_EQ(ended[0].outcome, RebalanceOutcome::kFinished);
  EXPECT_EQ(ended[0].reason, BalanceReason::kFirst);
  EXPECT_EQ(ended[0].took, seconds(3));
  EXPECT_EQ(ended[0].num_moved, 24u);
  EXPECT_FALSE(state_.moving);
  EXPECT_THAT(after(seconds(100)), IsEmpty());
}

TEST_F(Balancer, WorkersOfAnEarlierCoordinatorKeepWhatTheyHold) {
  workers({1, 2});
  for (const LayerIdx layer : shape_.layers) {
    for (uint32_t i = 0; i < kNumExperts; ++i) {
      held_[WorkerId(1 + i % 2)].emplace(layer, ExpertId(i));
    }
  }
  after({});
  const auto effects = after(seconds(2));
  EXPECT_THAT(retargets(effects), ElementsAre(BalanceReason::kFirst));
  EXPECT_FALSE(state_.moving);
  EXPECT_EQ(wanted(WorkerId(1)), held_[WorkerId(1)]);
}

TEST_F(Balancer, OneThatHoldsAllSharesWithOneThatHoldsNothing) {
  workers({1, 2});
  for (const LayerIdx layer : shape_.layers) {
    for (uint32_t i = 0; i < kNumExperts; ++i) held_[WorkerId(1)].emplace(layer, ExpertId(i));
  }
  after({});
  after(seconds(2));
  EXPECT_EQ(num_wanted(1), 12u);
  EXPECT_EQ(num_wanted(2), 12u);
  EXPECT_EQ(state_.target->version(), 1u);
}

TEST_F(Balancer, ManyThatJoinCauseOnePlan) {
  workers({1, 2});
  settle();
  workers({3});
  EXPECT_THAT(after(seconds(1)), IsEmpty());
  workers({4});
  EXPECT_THAT(after(milliseconds(1900)), IsEmpty());
  EXPECT_THAT(after(milliseconds(1900)), IsEmpty());
  EXPECT_THAT(retargets(after(milliseconds(100))), ElementsAre(BalanceReason::kJoined));
  for (uint32_t id = 1; id <= 4; ++id) EXPECT_EQ(num_wanted(id), 6u);
  EXPECT_EQ(state_.num_left, 12u);
}

TEST_F(Balancer, ALaterPlanSupersedesTheEarlier) {
  workers({1, 2});
  settle();
  workers({3});
  after({});
  ASSERT_THAT(retargets(after(seconds(2))), SizeIs(1));
  workers({4});
  after({});
  const auto effects = after(seconds(2));
  EXPECT_THAT(retargets(effects), ElementsAre(BalanceReason::kJoined));
  ASSERT_THAT(endings(effects), SizeIs(1));
  EXPECT_EQ(endings(effects)[0].outcome, RebalanceOutcome::kSuperseded);
  EXPECT_EQ(endings(effects)[0].num_moved, 0u);
}

TEST_F(Balancer, WhatHasNoOtherHolderIsCoveredAtOnceAndGoesBack) {
  for (const Presence presence : {kSilent, kGone}) {
    SCOPED_TRACE(static_cast<int>(presence));
    state_ = {};
    held_.clear();
    workers({1, 2, 3});
    settle();
    const Placement before = *state_.target;
    worker(2, presence);
    const auto effects = after(milliseconds(10));
    EXPECT_THAT(retargets(effects),
                ElementsAre(presence == kGone ? BalanceReason::kGone : BalanceReason::kSilent));
    EXPECT_EQ(state_.num_left, 8u);
    EXPECT_EQ(num_wanted(1) + num_wanted(3), 24u);
    EXPECT_EQ(num_wanted(1), 12u);
    EXPECT_EQ(num_wanted(2), 8u);  // It may come back.
    load();
    after(seconds(1));
    worker(2, kHere);
    after(seconds(1));
    EXPECT_TRUE(state_.target->same_replicas(before));
    EXPECT_EQ(state_.moving, presence == kGone);  // It lost what it held.
    load();
    after(seconds(3));
    EXPECT_TRUE(state_.target->same_replicas(before));
  }
}

TEST_F(Balancer, WhatHasAnotherHolderIsNotCopiedBeforeTheRestoreDelay) {
  options_.replicas = 2;
  workers({1, 2, 3});
  settle();
  worker(2, kSilent);
  EXPECT_THAT(after(seconds(5)), IsEmpty());
  worker(2, kGone);
  EXPECT_THAT(after(seconds(1)), IsEmpty());
  EXPECT_THAT(after(milliseconds(9999)), IsEmpty());
  EXPECT_THAT(retargets(after(milliseconds(1))), ElementsAre(BalanceReason::kGone));
  EXPECT_EQ(num_wanted(2), 0u);
  EXPECT_EQ(fewest_replicas(), 2u);
  EXPECT_EQ(state_.num_left, 16u);
}

TEST_F(Balancer, OneThatReturnsInTimeGetsItsExpertsAgain) {
  options_.replicas = 2;
  workers({1, 2, 3});
  settle();
  const Placement before = *state_.target;
  worker(2, kGone);
  after(seconds(3));
  worker(2, kHere);
  EXPECT_THAT(after(seconds(3)), IsEmpty());
  EXPECT_TRUE(state_.moving);
  EXPECT_EQ(state_.num_left, 16u);
  load();
  EXPECT_THAT(endings(after(seconds(3))), SizeIs(1));
  EXPECT_TRUE(state_.target->same_replicas(before));
}

TEST_F(Balancer, ThoseThatStoodInKeepTheExpertsOfOneThatDoesNotReturn) {
  workers({1, 2, 3});
  settle();
  worker(2, kGone);
  after({});
  load();
  after(seconds(1));
  EXPECT_FALSE(state_.moving);
  after(seconds(9));
  EXPECT_EQ(num_wanted(2), 0u);
  EXPECT_EQ(num_wanted(1), 12u);
  EXPECT_FALSE(state_.moving);
}

TEST_F(Balancer, OneThatReturnsLateGetsAShare) {
  workers({1, 2, 3});
  settle();
  worker(2, kGone);
  after({});
  after(seconds(10));
  load();
  after(seconds(1));
  worker(2, kHere);
  after(seconds(1));
  EXPECT_THAT(retargets(after(seconds(2))), ElementsAre(BalanceReason::kJoined));
  EXPECT_EQ(num_wanted(2), 8u);
}

TEST_F(Balancer, OneThatIsForgottenIsNotWaitedFor) {
  options_.replicas = 2;
  workers({1, 2, 3});
  settle();
  workers_.erase(WorkerId(2));
  EXPECT_THAT(retargets(after({})), ElementsAre(BalanceReason::kGone));
  EXPECT_EQ(fewest_replicas(), 2u);
}

TEST_F(Balancer, WhatLeavesIsGivenToOthersAtOnce) {
  workers({1, 2, 3});
  settle();
  worker(2, kLeaving);
  EXPECT_THAT(retargets(after({})), ElementsAre(BalanceReason::kLeaving));
  EXPECT_EQ(num_wanted(2), 0u);
  EXPECT_EQ(num_wanted(1), 12u);
  EXPECT_EQ(num_wanted(3), 12u);
}

TEST_F(Balancer, LossOfSeveralAtOnce) {
  options_.replicas = 2;
  workers({1, 2, 3, 4});
  settle();
  worker(1, kGone);
  worker(3, kSilent);
  after({});
  size_t answered = 0;
  for (const LayerIdx layer : shape_.layers) {
    for (uint32_t i = 0; i < kNumExperts; ++i) {
      const auto replicas = state_.target->workers(layer, ExpertId(i));
      answered += std::any_of(replicas.begin(), replicas.end(),
                              [](WorkerId id) { return id == WorkerId(2) || id == WorkerId(4); });
    }
  }
  EXPECT_EQ(answered, 24u);
  for (const uint32_t id : {1u, 2u, 3u, 4u}) worker(id, kGone);
  after({});
  EXPECT_THAT(after(seconds(11)), ElementsAre(testing::VariantWith<effect::Homeless>(testing::_),
                                              testing::VariantWith<effect::Retarget>(testing::_)));
  EXPECT_EQ(state_.num_homeless, 24u);
  workers({5});
  EXPECT_THAT(retargets(after({})), ElementsAre(BalanceReason::kJoined));
  EXPECT_EQ(num_wanted(5), 24u);
  EXPECT_EQ(state_.num_homeless, 0u);
}

TEST_F(Balancer, ShortMemoryIsSaidOnce) {
  options_.first_settle = {};
  worker(1, kHere, 10);
  worker(2, kHere, 11);
  const auto effects = after({});
  ASSERT_THAT(effects, SizeIs(2));
  const auto* homeless = std::get_if<effect::Homeless>(&effects[0]);
  ASSERT_NE(homeless, nullptr);
  EXPECT_EQ(homeless->num_experts, 3u);
  load();
  EXPECT_THAT(endings(after(seconds(1))), SizeIs(1));
  EXPECT_THAT(after(seconds(60)), IsEmpty());
  workers({3});
  after({});
  EXPECT_EQ(state_.num_homeless, 0u);
  EXPECT_EQ(fewest_replicas(), 1u);
}

TEST_F(Balancer, TheLoadMovesExpertsAtTheInterval) {
  workers({1, 2, 3});
  settle();
  heat(0);
  EXPECT_THAT(after(seconds(3)), IsEmpty());
  const auto effects = after(seconds(10));
  EXPECT_THAT(retargets(effects), ElementsAre(BalanceReason::kLoad));
  EXPECT_LT(state_.imbalance, 1.4);
  load();
  after(seconds(1));
  for (int i = 0; i < 5; ++i) EXPECT_THAT(after(seconds(10)), IsEmpty());
}

TEST_F(Balancer, AFewRowsMoveNothing) {
  workers({1, 2, 3});
  settle();
  loads_.assign(2, std::vector<double>(kNumExperts, 0));
  loads_[0][0] = loads_[1][0] = 200;
  EXPECT_THAT(after(seconds(20)), IsEmpty());
}

TEST_F(Balancer, TheHotGetExtraReplicas) {
  options_.extra_replicas = 0.1;
  workers({1, 2, 3});
  settle();
  heat(5);
  after(seconds(20));
  EXPECT_EQ(state_.target->workers(LayerIdx(1), ExpertId(5)).size(), 2u);
}

TEST_F(Balancer, FrozenNothingMovesButWhatWouldBeLost) {
  workers({1, 2});
  settle();
  freeze(state_, true);
  heat(0);
  workers({3});
  EXPECT_THAT(after(seconds(30)), IsEmpty());
  EXPECT_THAT(after(seconds(30)), IsEmpty());
  EXPECT_GT(state_.imbalance, 1.2);
  worker(2, kGone);
  EXPECT_THAT(retargets(after({})), ElementsAre(BalanceReason::kGone));
  EXPECT_EQ(fewest_replicas(), 1u);
  worker(2, kHere);
  after(seconds(3));
  load();
  after(seconds(3));
  EXPECT_EQ(num_wanted(3), 0u);
  freeze(state_, false);
  EXPECT_THAT(retargets(after(seconds(1))), ElementsAre(BalanceReason::kJoined));
  EXPECT_GT(num_wanted(3), 0u);
}

TEST_F(Balancer, OperatorsAreObeyed) {
  workers({1, 2});
  settle();
  Placement wanted(77, shape_);
  for (const LayerIdx layer : shape_.layers) {
    for (uint32_t i = 0; i < kNumExperts; ++i) {
      wanted.add_replica(layer, ExpertId(i), WorkerId(i < 10 ? 1 : 2));
    }
  }
  const uint64_t version = state_.target->version();
  freeze(state_, true);
  aim_at(state_, wanted);
  EXPECT_THAT(retargets(after({})), ElementsAre(BalanceReason::kOperator));
  EXPECT_TRUE(state_.target->same_replicas(wanted));
  EXPECT_EQ(state_.target->version(), version + 1);
  load();
  after(seconds(1));
  EXPECT_THAT(after(seconds(60)), IsEmpty());
}

TEST_F(Balancer, AStalledRebalanceKeepsWhatIsHeld) {
  workers({1, 2});
  settle();
  workers({3});
  broken_.insert(WorkerId(3));
  after({});
  after(seconds(2));
  load();
  ASSERT_EQ(num_wanted(3), 8u);
  // The others still hold what it does not load.
  for (const uint32_t id : {1u, 2u}) {
    for (const LayerIdx layer : shape_.layers) {
      for (uint32_t i = 0; i < kNumExperts; ++i) {
        if (i / 6 + 1 == id) held_[WorkerId(id)].emplace(layer, ExpertId(i));
      }
    }
  }
  EXPECT_THAT(after(seconds(59)), IsEmpty());
  const auto effects = after(seconds(1));
  ASSERT_THAT(endings(effects), SizeIs(1));
  EXPECT_EQ(endings(effects)[0].outcome, RebalanceOutcome::kStalled);
  EXPECT_EQ(endings(effects)[0].num_left, 8u);
  EXPECT_THAT(retargets(effects), ElementsAre(BalanceReason::kStalled));
  EXPECT_EQ(num_wanted(3), 0u);
  EXPECT_EQ(fewest_replicas(), 1u);
  EXPECT_FALSE(state_.moving);
  EXPECT_THAT(after(seconds(30)), IsEmpty());
}

/// Each could load only what the other has dropped, which it does when that is loaded.
TEST_F(Balancer, FullWorkersThatWaitForEachOtherKeepWhatTheyHave) {
  worker(1, Presence::kHere, kNumExperts);
  worker(2, Presence::kHere, kNumExperts);
  settle();
  const auto before = held_;
  aim_at(state_, passed_on());
  after({});
  EXPECT_EQ(state_.num_left, 2u * kNumExperts);
  EXPECT_THAT(after(options_.room_timeout - milliseconds(500)), IsEmpty());
  const auto effects = after(seconds(1));
  ASSERT_THAT(endings(effects), SizeIs(1));
  EXPECT_EQ(endings(effects)[0].outcome, RebalanceOutcome::kStalled);
  EXPECT_TRUE(endings(effects)[0].no_room);
  EXPECT_THAT(retargets(effects), ElementsAre(BalanceReason::kStalled));
  EXPECT_FALSE(state_.moving);
  for (const uint32_t id : {1u, 2u}) EXPECT_EQ(wanted(WorkerId(id)), before.at(WorkerId(id)));
}

TEST_F(Balancer, WhereNothingBetterIsFoundAStallIsNotSeenAllTheTime) {
  worker(1, Presence::kHere, kNumExperts);
  worker(2, Presence::kHere, kNumExperts);
  settle();
  worker(2, Presence::kGone);
  after({});
  Placement all_on_one(0, shape_);
  for (const LayerIdx layer : shape_.layers) {
    for (ExpertId expert(0); expert.value < kNumExperts; ++expert.value) {
      all_on_one.add_replica(layer, expert, WorkerId(1));
    }
  }
  aim_at(state_, all_on_one);
  after({});
  EXPECT_THAT(endings(after(options_.room_timeout)), SizeIs(1));
  EXPECT_TRUE(state_.moving);
  EXPECT_THAT(endings(after(options_.stall_timeout - seconds(1))), IsEmpty());
  EXPECT_THAT(endings(after(seconds(1))), SizeIs(1));
}

TEST_F(Balancer, WhoHasRoomIsGivenTime) {
  worker(1, Presence::kHere, kNumExperts);
  worker(2, Presence::kHere, kNumExperts + 1);
  settle();
  aim_at(state_, passed_on());
  after({});
  EXPECT_THAT(after(options_.stall_timeout - seconds(1)), IsEmpty());
  const auto effects = after(seconds(1));
  ASSERT_THAT(endings(effects), SizeIs(1));
  EXPECT_FALSE(endings(effects)[0].no_room);
}

TEST_F(Balancer, FullWorkersAreGivenTimeAfterEachExpert) {
  worker(1, Presence::kHere, kNumExperts);
  worker(2, Presence::kHere, kNumExperts);
  settle();
  aim_at(state_, passed_on());
  after({});
  const auto before = held_[WorkerId(2)];
  const auto to_come = wanted(WorkerId(2));
  auto coming = to_come.begin();
  for (const auto& dropped : before) {
    EXPECT_THAT(after(options_.room_timeout - milliseconds(500)), IsEmpty());
    held_[WorkerId(2)].erase(dropped);
    held_[WorkerId(2)].insert(*coming++);
    EXPECT_THAT(after(milliseconds(500)), IsEmpty());
  }
}

TEST_F(Balancer, WhatOneCannotLoadAnotherGets) {
  workers({1, 2, 3});
  broken_.insert(WorkerId(3));
  after({});
  after(seconds(2));
  load();
  after(seconds(1));
  EXPECT_EQ(state_.num_left, 8u);
  after(seconds(60));
  EXPECT_EQ(num_wanted(3), 0u);
  EXPECT_EQ(fewest_replicas(), 1u);
  load();
  after(seconds(1));
  EXPECT_FALSE(state_.moving);
}

TEST_F(Balancer, WhatNobodyCanLoadStaysWhereItShouldBe) {
  workers({1});
  broken_.insert(WorkerId(1));
  after({});
  after(seconds(2));
  EXPECT_THAT(endings(after(seconds(60))), SizeIs(1));
  EXPECT_EQ(num_wanted(1), 24u);
  EXPECT_TRUE(state_.moving);
  EXPECT_THAT(endings(after(seconds(60))), SizeIs(1));
}

TEST_F(Balancer, SlowProgressIsNoStall) {
  workers({1});
  after({});
  after(seconds(2));
  for (const auto& expert : wanted(WorkerId(1))) {
    EXPECT_THAT(after(seconds(50)), IsEmpty());
    held_[WorkerId(1)].insert(expert);
  }
  EXPECT_EQ(endings(after(seconds(50)))[0].outcome, RebalanceOutcome::kFinished);
}

TEST(BalancerNames, AreAllDifferent) {
  std::set<std::string_view> names;
  for (const auto reason : {BalanceReason::kLoad, BalanceReason::kJoined, BalanceReason::kSilent,
                            BalanceReason::kGone, BalanceReason::kLeaving, BalanceReason::kOperator,
                            BalanceReason::kStalled, BalanceReason::kFirst}) {
    names.insert(to_string(reason));
  }
  EXPECT_THAT(names, SizeIs(8));
}

}  // namespace
}  // namespace pregate::coordinator
