#include "router/lookahead/next_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/step_rows.h"

namespace pregate::router {
namespace {

using test_support::decide;
using test_support::words_of;
using testing::ElementsAre;
using testing::IsEmpty;

/// Layers 0, 2 and 3 have three experts; an expert's logit is the row's number of the same place,
/// after a layer's own turn: layer 2 reads them one further, layer 3 two.
class NextGateTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const size_t turn : {0, 0, 1, 2}) {
      std::vector<float> weights(9);
      for (size_t e = 0; e < 3; ++e) weights[e * 3 + (e + turn) % 3] = 1.0f;
      const compute::SourceMatrix source{reinterpret_cast<const std::byte*>(weights.data()),
                                         compute::DType::kF32, 3, 3};
      packed_.push_back(backend_->pack(source, compute::WeightFormat::kF32).value());
    }
    for (const LayerIdx layer : moe_.layers) gates_[layer.value] = packed_[layer.value].get();
  }

  NextGateLookahead make(NextGateOptions options) {
    return NextGateLookahead(*backend_, gates_, moe_, options);
  }

  Plan routed(NextGateLookahead& lookahead, uint32_t layer, LayerTime now,
              const std::vector<float>& rows) const {
    Plan plan;
    lookahead.routed(LayerIdx(layer), now, {rows.data(), rows.size() / 3, 3}, {}, plan);
    return plan;
  }

  ThreadPool threads_{1};
  std::unique_ptr<compute::Backend> backend_ = compute::make_backend("reference", threads_).value();
  std::vector<std::unique_ptr<compute::PackedMatrix>> packed_;
  std::vector<const compute::PackedMatrix*> gates_ = std::vector<const compute::PackedMatrix*>(4);
  MoeLayers moe_{4, {LayerIdx(0), LayerIdx(2), LayerIdx(3)}, 3, 1};
};

TEST_F(NextGateTest, AppliesTheNextLayersGate) {
  auto lookahead = make({});
  // Expert 1 of layer 2 reads the row's last number.
  const Plan plan = routed(lookahead, 0, 8, {0, 0, 2});
  EXPECT_THAT(words_of(plan), ElementsAre("2:1@10"));
  EXPECT_NEAR(plan[0].likelihood, std::exp(2.0f) / (2 + std::exp(2.0f)), 1e-6);
  EXPECT_THAT(words_of(routed(lookahead, 2, 10, {0, 0, 2})), ElementsAre("3:0@11"));
  EXPECT_THAT(routed(lookahead, 3, 11, {0, 0, 2}), IsEmpty());
}

TEST_F(NextGateTest, LikelihoodsAddUpToTheExpertsOfARow) {
  moe_.top_k = 2;
  auto lookahead = make({});
  const Plan plan = routed(lookahead, 0, 8, {0.5f, 0.25f, 0});
  ASSERT_THAT(words_of(plan), ElementsAre("2:2@10", "2:0@10"));
  const float sum = std::exp(0.5f) + std::exp(0.25f) + 1.0f;
  EXPECT_NEAR(plan[0].likelihood, 2 * std::exp(0.5f) / sum, 1e-6);
  EXPECT_NEAR(plan[1].likelihood, 2 * std::exp(0.25f) / sum, 1e-6);
}

TEST_F(NextGateTest, SeveralRowsGuessWhatAnyOfThemNeeds) {
  auto lookahead = make({});
  EXPECT_THAT(words_of(routed(lookahead, 0, 8, {0, 0, 2, 0, 3, 0, 0, 2, 0})),
              ElementsAre("2:0@10", "2:1@10"));
  auto bounded = make({.max_guesses = 1});
  EXPECT_THAT(words_of(routed(bounded, 0, 8, {0, 0, 2, 0, 3, 0})), ElementsAre("2:0@10"));
}

TEST_F(NextGateTest, WhatWasSaidFromFartherIsNotSaidAgain) {
  auto lookahead = make({.depth = 2});
  Plan none;
  lookahead.begin_step({}, 8, none);
  EXPECT_THAT(words_of(routed(lookahead, 0, 8, {0, 0, 2})), ElementsAre("2:1@10", "3:0@11"));
  lookahead.begin_step({}, 9, none);  // rows dropped out
  EXPECT_THAT(routed(lookahead, 2, 10, {0, 0, 2}), IsEmpty());
  lookahead.begin_step({}, 12, none);
  EXPECT_THAT(words_of(routed(lookahead, 0, 12, {0, 0, 2})), ElementsAre("2:1@14", "3:0@15"));
  EXPECT_THAT(words_of(routed(lookahead, 2, 14, {2, 0, 0})), ElementsAre("3:1@15"));
}

}  // namespace
}  // namespace pregate::router
