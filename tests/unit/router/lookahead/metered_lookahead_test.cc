#include "router/lookahead/metered_lookahead.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/support/step_rows.h"

namespace pregate::router {
namespace {

constexpr size_t kNumExperts = 16;
const MoeLayers kMoe{2, {LayerIdx(0), LayerIdx(1)}, kNumExperts, 2};

/// Guesses two experts for layer 1 at random; or, told so, those that will be used.
class Guesser final : public Lookahead {
 public:
  std::string_view name() const override { return "guesser"; }
  void begin_step(const StepTokens&, LayerTime now, Plan&) override {
    steps_asked.push_back(kMoe.step_of(now));
  }
  void routed(LayerIdx layer, LayerTime now, compute::Matrix<const float>, const Decisions&,
              Plan& plan) override {
    if (layer != LayerIdx(0)) return;
    const auto first = static_cast<uint32_t>(random_.next_below(kNumExperts / 2));
    const std::vector<uint32_t> experts =
        knows ? std::vector<uint32_t>{3, 5} : std::vector<uint32_t>{first, first + 8};
    for (const uint32_t e : experts) {
      plan.push_back({LayerIdx(1), ExpertId(e), now + 1, false, 0.5f});
    }
  }

  bool knows = false;
  std::vector<LayerTime> steps_asked;

 private:
  Random random_{1};
};

class MeteredLookaheadTest : public testing::Test {
 protected:
  /// Layer 1 uses experts 3 and 5. Returns how many guesses were passed on.
  size_t run_steps(size_t count) {
    const Plan none;
    size_t num_said = 0;
    for (size_t i = 0; i < count; ++i, ++step_) {
      Plan plan;
      test_support::StepRows rows;
      rows.add(std::vector<TokenId>{1}, step_, 0);
      const float row = 1.0f;
      lookahead_.begin_step(rows.view(), kMoe.time_of(step_, LayerIdx(0)), plan);
      for (const LayerIdx layer : kMoe.layers) {
        lookahead_.routed(layer, kMoe.time_of(step_, layer), {&row, 1, 1},
                          test_support::decide(2, {3, 5}), plan);
      }
      num_said += plan.size();
    }
    return num_said;
  }

  std::unique_ptr<Guesser> made_ = std::make_unique<Guesser>();
  Guesser& guesser_ = *made_;
  std::vector<GuessReport> reports_;
  MeteredLookahead lookahead_{
      std::move(made_), kMoe,
      PayRule{.off_below = 0.35, .on_from = 0.45, .memory_guesses = 64, .min_guesses = 32},
      [this](const GuessReport& report) { reports_.push_back(report); }};
  LayerTime step_ = 1;
};

TEST_F(MeteredLookaheadTest, RandomGuessesAreSoonNotFollowed) {
  const size_t num_said = run_steps(320);
  EXPECT_FALSE(lookahead_.active());
  EXPECT_EQ(num_said, 32u);  // min_guesses: at once
  EXPECT_FALSE(reports_.back().active);
  EXPECT_LT(lookahead_.meter().recent_precision(), 0.35);
}

TEST_F(MeteredLookaheadTest, WhatDoesNotPayIsAskedNowAndThenOnly) {
  run_steps(320);
  const std::set<LayerTime> asked(guesser_.steps_asked.begin(), guesser_.steps_asked.end());
  EXPECT_EQ(asked.size(), guesser_.steps_asked.size());
  size_t num_late = 0;
  for (const LayerTime step : asked) {
    if (step <= 64) continue;
    ++num_late;
    EXPECT_LT(step % MeteredLookahead::kMeasureEvery, 2u);
  }
  EXPECT_EQ(num_late, 16u);  // 65, 96, 97, 128, ..., 289, 320
  // Only what was measured counts.
  EXPECT_EQ(reports_.size(), 2 * asked.size());
}

TEST_F(MeteredLookaheadTest, ItIsFollowedAgainWhenItWouldPay) {
  run_steps(320);
  ASSERT_FALSE(lookahead_.active());
  guesser_.knows = true;
  EXPECT_GT(run_steps(1000), 0u);
  EXPECT_TRUE(lookahead_.active());
  EXPECT_EQ(run_steps(100), 200u);
}

TEST_F(MeteredLookaheadTest, GoodGuessesAreAlwaysFollowed) {
  guesser_.knows = true;
  EXPECT_EQ(run_steps(500), 1000u);
  ASSERT_EQ(reports_.size(), 1000u);
  const GuessReport& last = reports_.back();
  EXPECT_EQ(last.source, "guesser");
  EXPECT_EQ(last.layer, LayerIdx(1));
  EXPECT_EQ(last.counts.guessed, 2u);
  EXPECT_EQ(last.counts.hit, 2u);
  EXPECT_TRUE(last.active);
}

}  // namespace
}  // namespace pregate::router
