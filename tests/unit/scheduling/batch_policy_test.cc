#include "coordinator/scheduling/batch_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/planner_harness.h"

namespace pregate::coordinator {
namespace {

using test_support::PlannerHarness;
using ::testing::ElementsAre;
using Planned = std::map<uint64_t, size_t>;

std::vector<ExpertId> experts(std::initializer_list<uint32_t> ids) {
  return {ids.begin(), ids.end()};
}

/// Candidates, and the experts that they refer to.
class Candidates {
 public:
  Candidates& decodes(uint32_t expert, size_t num_passed_over = 0) {
    return add(true, 1, num_passed_over, experts({expert}));
  }
  Candidates& prefills(std::initializer_list<uint32_t> ids, size_t num_passed_over = 0) {
    return add(true, ids.size(), num_passed_over, experts(ids));
  }
  Candidates& waits(std::initializer_list<uint32_t> ids, size_t num_passed_over = 0) {
    return add(false, ids.size(), num_passed_over, experts(ids));
  }
  Candidates& unknown(bool is_running, size_t num_tokens, size_t num_passed_over = 0) {
    return add(is_running, num_tokens, num_passed_over, {});
  }
  std::vector<size_t> order(const BatchPolicyOptions& options, size_t budget) const {
    return make_batch_policy(options)->order(candidates_, budget);
  }

 private:
  Candidates& add(bool is_running, size_t num_tokens, size_t num_passed_over,
                  std::vector<ExpertId> ids) {
    experts_.push_back(std::move(ids));
    candidates_.push_back({is_running, num_tokens, num_passed_over, experts_.back()});
    return *this;
  }
  std::deque<std::vector<ExpertId>> experts_;
  std::vector<Candidate> candidates_;
};

const BatchPolicyOptions kDecodeFirst{.name = BatchPolicyName::kDecodeFirst};
const BatchPolicyOptions kPrefillFirst{.name = BatchPolicyName::kPrefillFirst};
const BatchPolicyOptions kExpertAware{.name = BatchPolicyName::kExpertAware};

TEST(BatchPolicy, HasItsFlagsName) {
  EXPECT_EQ(to_string(BatchPolicyName::kDecodeFirst), "decode-first");
  EXPECT_EQ(to_string(BatchPolicyName::kPrefillFirst), "prefill-first");
  EXPECT_EQ(to_string(BatchPolicyName::kExpertAware), "expert-aware");
  EXPECT_FALSE(make_batch_policy(kDecodeFirst)->reads_experts());
  EXPECT_FALSE(make_batch_policy(kPrefillFirst)->reads_experts());
  EXPECT_TRUE(make_batch_policy(kExpertAware)->reads_experts());
}

TEST(BatchPolicy, DecodeFirstTakesKindByKindAndEachInOrder) {
  Candidates some;
  some.unknown(true, 9).unknown(true, 1).unknown(true, 7).unknown(true, 1);
  some.unknown(false, 1).unknown(false, 20, 1000);
  EXPECT_THAT(some.order(kDecodeFirst, 8), ElementsAre(1, 3, 0, 2, 4, 5));
}

TEST(BatchPolicy, PrefillFirstTakesThoseWhoWaitBeforeThoseWhoDecode) {
  Candidates some;
  some.unknown(true, 9).unknown(true, 1).unknown(true, 7).unknown(true, 1);
  some.unknown(false, 1).unknown(false, 20);
  EXPECT_THAT(some.order(kPrefillFirst, 8), ElementsAre(0, 2, 4, 5, 1, 3));
}

TEST(BatchPolicy, WhoWasPassedOverTooOftenComesFirst) {
  Candidates some;
  some.unknown(true, 9, 2).unknown(true, 1, 3).unknown(true, 1, 5).unknown(true, 1, 3);
  some.unknown(false, 4, 9).unknown(false, 4, 3).unknown(false, 4, 2);
  for (BatchPolicyOptions options : {kPrefillFirst, kExpertAware}) {
    options.max_passed_over = 3;
    std::vector<size_t> order = some.order(options, 100);
    order.resize(5);
    EXPECT_THAT(order, ElementsAre(2, 1, 3, 4, 5)) << to_string(options.name);
  }
}

TEST(ExpertAware, TakesTheLongestQueueFirst) {
  Candidates some;
  some.decodes(1).decodes(2).decodes(0).decodes(2).decodes(0).decodes(2);
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(1, 3, 5, 2, 4, 0));
}

TEST(ExpertAware, AQueueIsInOrderOfTheStepsItWaited) {
  Candidates some;
  some.decodes(2).decodes(2, 1).decodes(2, 2).decodes(2, 1);
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(2, 1, 3, 0));
}

TEST(ExpertAware, MeasuresQueuesInTokens) {
  Candidates some;
  some.decodes(1).decodes(1).decodes(1).prefills({2, 2, 2, 2});
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(3, 0, 1, 2));
}

/// Two queues that fill the step are equal: the one that needs fewer experts comes first.
TEST(ExpertAware, CountsNoMoreTokensThanTheStepCanTake) {
  Candidates some;
  some.prefills({1, 2, 1, 2, 1, 2, 1, 2}).decodes(3).decodes(3).decodes(3);
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(0, 1, 2, 3));  // 8 for 2 against 3 for 1
  EXPECT_THAT(some.order(kExpertAware, 3), ElementsAre(1, 2, 3, 0));    // 3 for 2 against 3 for 1
}

/// Once the batch has a prefill's experts, their decodes cost nothing, and come before its tokens.
TEST(ExpertAware, APrefillBringsTheDecodesOfItsExpertsAlong) {
  Candidates some;
  some.decodes(0).decodes(3).decodes(1).decodes(3).waits({0, 1, 0, 1, 2, 1, 0, 2, 1, 0, 0, 0});
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(0, 2, 4, 1, 3));
}

/// {1, 2} needs two experts, but one of them comes with the longer queue.
TEST(ExpertAware, ExpertsThatTheBatchHasCostNothing) {
  Candidates some;
  some.decodes(0).decodes(0).decodes(0).prefills({1, 2, 1}).decodes(1).decodes(1).decodes(1);
  some.decodes(1);
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(4, 5, 6, 7, 0, 1, 2, 3));
  some.prefills({2, 2, 1});
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(4, 5, 6, 7, 3, 8, 0, 1, 2));
}

TEST(ExpertAware, WhoGoesFirstBringsItsExpertsIn) {
  Candidates some;
  some.decodes(1).decodes(1).decodes(1).decodes(2).decodes(2, 16);
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(4, 3, 0, 1, 2));
}

TEST(ExpertAware, EqualQueuesGoByTheLoadOfWhoComputesThem) {
  Candidates some;
  some.decodes(0).decodes(1).decodes(2).decodes(0).decodes(1).decodes(2);
  BatchPolicyOptions options = kExpertAware;
  EXPECT_THAT(some.order(options, 100), ElementsAre(0, 3, 1, 4, 2, 5));
  options.expert_load = [](ExpertId expert) { return expert == ExpertId(1) ? 0.5 : 1.0; };
  EXPECT_THAT(some.order(options, 100), ElementsAre(1, 4, 0, 3, 2, 5));
}

TEST(ExpertAware, WhoseExpertsAreNotKnownComesLast) {
  Candidates some;
  some.unknown(true, 1).unknown(false, 100).decodes(3).prefills({1, 2, 3});
  EXPECT_THAT(some.order(kExpertAware, 100), ElementsAre(2, 3, 0, 1));
}

TEST(ExpertAware, NothingIsOrderedAsNothing) {
  EXPECT_THAT(Candidates().order(kExpertAware, 100), ElementsAre());
}

/// With one token each, no other full batch has fewer experts.
TEST(ExpertAware, NoFullBatchOfDecodesHasFewerExperts) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    Random random(seed);
    Candidates some;
    std::vector<uint32_t> expert_of;
    std::map<uint32_t, size_t> lengths;
    const size_t count = 1 + random.next_below(60), budget = 1 + random.next_below(count);
    for (size_t i = 0; i < count; ++i) {
      expert_of.push_back(static_cast<uint32_t>(random.next_below(7)));
      some.decodes(expert_of.back());
      ++lengths[expert_of.back()];
    }
    std::set<uint32_t> taken;
    const std::vector<size_t> order = some.order(kExpertAware, budget);
    for (size_t i = 0; i < budget; ++i) taken.insert(expert_of[order[i]]);
    std::vector<size_t> longest;
    for (const auto& [expert, length] : lengths) longest.push_back(length);
    std::ranges::sort(longest, std::greater{});
    size_t fewest = 0;
    for (size_t covered = 0; covered < budget; ++fewest) covered += longest[fewest];
    ASSERT_EQ(taken.size(), fewest) << "seed " << seed;
  }
}

/// In a planner: the last queue is split, and who is left over comes when it is its queue's turn.
TEST(ExpertAware, OnlyTheLastQueueIsSplit) {
  PlannerHarness harness({.limits = {.max_step_tokens = 4, .max_sequences = 6},
                          .policy = kExpertAware,
                          .expert_of = [](const Sequence& sequence, size_t) {
                            return ExpertId(sequence.request().id.value <= 3 ? 0 : 1);
                          }});
  for (int i = 0; i < 6; ++i) harness.add(1, 9);
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {2, 1}, {3, 1}, {4, 1}}));
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {4, 1}, {5, 1}, {6, 1}}));
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {2, 1}, {3, 1}, {4, 1}}));
}

/// With decodes enough for every step, prefill-first leaves them waiting, but not for ever.
TEST(PrefillFirst, DecodesGoOnAtTheLatestWhenTheyWerePassedOverSoOften) {
  BatchPolicyOptions options = kPrefillFirst;
  options.max_passed_over = 2;
  PlannerHarness harness({.limits = {.max_step_tokens = 8, .max_sequences = 4}, .policy = options});
  harness.add(3, 9);
  EXPECT_EQ(harness.step(), (Planned{{1, 3}}));
  harness.add(100, 1);
  EXPECT_EQ(harness.step(), (Planned{{2, 8}}));
  EXPECT_EQ(harness.step(), (Planned{{2, 8}}));
  EXPECT_EQ(harness.step(), (Planned{{1, 1}, {2, 7}}));
  EXPECT_EQ(harness.step(), (Planned{{2, 8}}));
}

}  // namespace
}  // namespace pregate::coordinator
