#include "router/lookahead/guess_meter.h"

#include <gtest/gtest.h>

#include "tests/support/step_rows.h"

namespace pregate::router {
namespace {

using test_support::decide;

Plan guesses(LayerTime when, const std::vector<uint32_t>& experts) {
  Plan plan;
  for (const uint32_t e : experts) plan.push_back({LayerIdx(0), ExpertId(e), when, false, 0.5f});
  return plan;
}

TEST(GuessMeter, CountsExpertsOncePerLayerAndStep) {
  GuessMeter meter(3, {});
  meter.guessed(guesses(7, {1, 2, 5}));
  meter.guessed(guesses(7, {2}));  // said twice
  const GuessCounts counts = meter.routed(LayerIdx(1), 7, decide(2, {1, 5, 5, 3, 1, 0}));
  EXPECT_EQ(counts.guessed, 3u);
  EXPECT_EQ(counts.hit, 2u);
  EXPECT_EQ(counts.used, 4u);
  EXPECT_DOUBLE_EQ(counts.precision(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(counts.recall(), 0.5);
  EXPECT_EQ(meter.of_layer(LayerIdx(1)).hit, 2u);
  EXPECT_EQ(meter.of_layer(LayerIdx(0)).used, 0u);
  EXPECT_EQ(meter.all_layers().used, 4u);
}

TEST(GuessMeter, NothingGuessedIsNoMistake) {
  GuessMeter meter(1, {.min_guesses = 1});
  const GuessCounts counts = meter.routed(LayerIdx(0), 1, decide(1, {0}));
  EXPECT_EQ(counts.guessed, 0u);
  EXPECT_EQ(counts.used, 1u);
  EXPECT_EQ(counts.precision(), 0.0);
  EXPECT_EQ(counts.recall(), 0.0);
  EXPECT_TRUE(meter.pays());
}

// A step may end before its last layer, and guesses are for one time only.
TEST(GuessMeter, GuessesForLayersThatNeverCameAreForgotten) {
  GuessMeter meter(2, {});
  meter.guessed(guesses(3, {1}));
  meter.guessed(guesses(5, {1}));
  EXPECT_EQ(meter.routed(LayerIdx(0), 4, decide(1, {1})).guessed, 0u);
  EXPECT_EQ(meter.routed(LayerIdx(1), 5, decide(1, {1})).guessed, 1u);
  EXPECT_EQ(meter.routed(LayerIdx(0), 6, decide(1, {1})).guessed, 0u);
  EXPECT_EQ(meter.all_layers().guessed, 1u);
}

class PayRuleTest : public testing::Test {
 protected:
  /// Guesses four experts, of which so many are used, so many times.
  void guess(uint32_t num_right, size_t times) {
    std::vector<uint32_t> used{7};
    for (uint32_t e = 0; e < num_right; ++e) used.push_back(e);
    for (size_t i = 0; i < times; ++i, ++now_) {
      meter_.guessed(guesses(now_, {0, 1, 2, 3}));
      meter_.routed(LayerIdx(0), now_, decide(1, used));
    }
  }

  GuessMeter meter_{1,
                    {.off_below = 0.35, .on_from = 0.6, .memory_guesses = 80, .min_guesses = 40}};
  LayerTime now_ = 0;
};

TEST_F(PayRuleTest, ItIsNotJudgedByAFewGuesses) {
  guess(0, 9);
  EXPECT_TRUE(meter_.pays());
  guess(0, 1);
  EXPECT_FALSE(meter_.pays());
}

TEST_F(PayRuleTest, TheFirstGuessesAreAveragedEvenly) {
  guess(0, 5);
  guess(4, 5);
  EXPECT_DOUBLE_EQ(meter_.recent_precision(), 0.5);
  EXPECT_TRUE(meter_.pays());
}

TEST_F(PayRuleTest, OldGuessesAreForgotten) {
  guess(4, 1000);
  guess(1, 20);  // as many guesses as the mean is of
  EXPECT_GT(meter_.recent_precision(), 0.4);
  guess(1, 200);
  EXPECT_NEAR(meter_.recent_precision(), 0.25, 0.01);
  EXPECT_FALSE(meter_.pays());
}

TEST_F(PayRuleTest, BetweenTheBoundsItStaysAsItIs) {
  guess(2, 300);
  EXPECT_TRUE(meter_.pays());
  guess(0, 100);
  EXPECT_FALSE(meter_.pays());
  guess(2, 300);
  EXPECT_NEAR(meter_.recent_precision(), 0.5, 0.01);
  EXPECT_FALSE(meter_.pays());
  guess(3, 300);
  EXPECT_TRUE(meter_.pays());
}

}  // namespace
}  // namespace pregate::router
