#include "router/lookahead/transitions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/step_rows.h"

namespace pregate::router {
namespace {

using test_support::decide;
using test_support::StepRows;
using test_support::words_of;
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<float> likely_after(const TransitionTable& table, const std::vector<uint32_t>& from) {
  std::vector<float> likely(4);
  table.likely_after(decide(1, from).expert_ids, likely);
  return likely;
}

void learn(TransitionTable& table, const std::vector<uint32_t>& from,
           const std::vector<uint32_t>& to, size_t times = 1) {
  for (size_t i = 0; i < times; ++i) {
    table.learn(decide(1, from).expert_ids, decide(1, to).expert_ids);
  }
}

TEST(TransitionTable, LikelyIsTheShareOfRows) {
  TransitionTable table(4, 1000);
  EXPECT_THAT(likely_after(table, {0}), ElementsAre(0, 0, 0, 0));
  learn(table, {0}, {1}, 3);
  learn(table, {0}, {2});
  EXPECT_THAT(likely_after(table, {0}), ElementsAre(0, 0.75f, 0.25f, 0));
  EXPECT_THAT(likely_after(table, {1}), ElementsAre(0, 0, 0, 0));
}

TEST(TransitionTable, SeveralExpertsOfARowAreAveraged) {
  TransitionTable table(4, 1000);
  learn(table, {0, 1}, {2, 3});
  learn(table, {1}, {2});
  EXPECT_THAT(likely_after(table, {0, 1}), ElementsAre(0, 0, 1.0f, 0.75f));
}

TEST(TransitionTable, NewerRowsCountMore) {
  TransitionTable table(4, 8);
  learn(table, {0}, {1}, 100);
  learn(table, {0}, {2}, 20);
  EXPECT_GT(likely_after(table, {0})[2], 0.8f);  // all rows alike: 1/6
}

/// Layers 0, 1 and 3 of four have eight experts, one per row.
class TransitionsTest : public testing::Test {
 protected:
  static constexpr size_t kNumLayers = 4;

  /// experts: [moe layer][row]. What was said after each of the layers.
  std::vector<Plan> run_step(StepRows rows, const std::vector<std::vector<uint32_t>>& experts) {
    Plan at_begin;
    lookahead_.begin_step(rows.view(), step_ * kNumLayers, at_begin);
    EXPECT_THAT(at_begin, IsEmpty());
    std::vector<Plan> plans;
    for (size_t i = 0; i < experts.size(); ++i) {
      const LayerIdx layer = moe_.layers[i];
      lookahead_.routed(layer, step_ * kNumLayers + layer.value, {}, decide(1, experts[i]),
                        plans.emplace_back());
    }
    ++step_;
    return plans;
  }

  static StepRows one(size_t position, size_t num_rows = 1) {
    StepRows rows;
    rows.add(std::vector<TokenId>(num_rows, 1), position, 0);
    return rows;
  }

  const MoeLayers moe_{kNumLayers, {LayerIdx(0), LayerIdx(1), LayerIdx(3)}, 8, 1};
  TransitionsLookahead lookahead_{moe_};
  LayerTime step_ = 1;
};

TEST_F(TransitionsTest, GuessesWhatFollowedBefore) {
  EXPECT_THAT(run_step(one(0), {{1}, {2}, {3}}), ElementsAre(IsEmpty(), IsEmpty(), IsEmpty()));
  const auto plans = run_step(one(1), {{1}, {2}, {3}});  // times 8, 9, 11
  EXPECT_THAT(words_of(plans[0]), ElementsAre("1:2@9"));
  EXPECT_THAT(words_of(plans[1]), ElementsAre("3:3@11"));
  // Token 0's last expert was followed by token 1's first.
  EXPECT_THAT(words_of(plans[2]), ElementsAre("0:1@12"));
}

TEST_F(TransitionsTest, LikelihoodIsTheShareOfTheRowsThatWentThatWay) {
  run_step(one(0), {{1}, {2}, {3}});
  run_step(one(0), {{1}, {5}, {3}});
  const auto plans = run_step(one(0), {{1}, {2}, {3}});
  ASSERT_THAT(words_of(plans[0]), ElementsAre("1:2@13"));  // one expert per row: the better one
  EXPECT_FLOAT_EQ(plans[0][0].likelihood, 0.5f);
}

TEST_F(TransitionsTest, RowsOfOneStepFollowOneAnotherToo) {
  run_step(one(0, 3), {{1, 2, 3}, {0, 0, 0}, {4, 5, 6}});
  // 4 -> 2 and 5 -> 3 are known, what follows 6 is not.
  EXPECT_THAT(run_step(one(0), {{1}, {0}, {6}})[2], IsEmpty());
  EXPECT_THAT(words_of(run_step(one(0), {{1}, {0}, {4}})[2]), ElementsAre("0:2@16"));
  EXPECT_THAT(words_of(run_step(one(0), {{1}, {0}, {5}})[2]), ElementsAre("0:3@20"));
}

TEST_F(TransitionsTest, SequencesAreToldApart) {
  const auto both = [](size_t position) {
    StepRows rows;
    rows.add(std::vector<TokenId>{1}, position, 0);
    rows.add(std::vector<TokenId>{1}, position, 10);
    return rows;
  };
  run_step(both(0), {{0, 0}, {0, 0}, {4, 5}});
  run_step(both(1), {{1, 2}, {0, 0}, {7, 7}});
  EXPECT_THAT(words_of(run_step(one(0), {{0}, {0}, {4}})[2]), ElementsAre("0:1@16"));
  EXPECT_THAT(words_of(run_step(one(0), {{0}, {0}, {5}})[2]), ElementsAre("0:2@20"));
}

TEST_F(TransitionsTest, RowsThatDropOutDoNotMixUpTheOthers) {
  StepRows both;
  both.add(std::vector<TokenId>{1}, 0, 0);
  both.add(std::vector<TokenId>{1}, 0, 10);
  StepRows second;
  second.add(std::vector<TokenId>{1}, 0, 10);
  Plan plan;
  lookahead_.begin_step(both.view(), 4, plan);
  lookahead_.routed(LayerIdx(0), 4, {}, decide(1, {1, 2}), plan);
  lookahead_.begin_step(second.view(), 5, plan);
  lookahead_.routed(LayerIdx(1), 5, {}, decide(1, {6}), plan);
  lookahead_.routed(LayerIdx(3), 7, {}, decide(1, {7}), plan);
  EXPECT_THAT(plan, IsEmpty());
  step_ = 2;
  EXPECT_THAT(run_step(one(0), {{1}, {0}, {0}})[0], IsEmpty());  // neither 1 -> 6 ...
  EXPECT_THAT(run_step(one(0), {{2}, {0}, {0}})[0], IsEmpty());  // ... nor 2 -> 6 was learned,
  const auto plans = run_step(one(0), {{3}, {6}, {0}});          // but 6 -> 7 was.
  EXPECT_THAT(words_of(plans[1]), ElementsAre("3:7@19"));
}

TEST_F(TransitionsTest, AModelMayHaveOneLayerWithExperts) {
  TransitionsLookahead lookahead({2, {LayerIdx(1)}, 8, 1});
  Plan plan;
  for (LayerTime step = 1; step < 4; ++step) {
    StepRows rows = one(step);
    plan.clear();
    lookahead.begin_step(rows.view(), 2 * step, plan);
    lookahead.routed(LayerIdx(1), 2 * step + 1, {}, decide(1, {5}), plan);
  }
  EXPECT_THAT(words_of(plan), ElementsAre("1:5@9"));
}

}  // namespace
}  // namespace pregate::router
