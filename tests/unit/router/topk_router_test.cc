#include "router/topk/topk_router.h"

#include <cmath>

#include <gtest/gtest.h>

namespace pregate::router {
namespace {

Decisions choose(std::vector<float> logits, size_t top_k, bool normalize) {
  Decisions out;
  std::vector<float> scratch;
  choose_top_k(logits, top_k, normalize, scratch, out);
  return out;
}

TEST(TopKRouter, GatesAreTheSoftmaxOfTheBest) {
  const auto out = choose({std::log(1.f), std::log(4.f), std::log(3.f), std::log(2.f)}, 2, false);
  EXPECT_EQ(out.expert_ids, (std::vector{ExpertId(1), ExpertId(2)}));
  EXPECT_NEAR(out.gates[0], 0.4f, 1e-6);
  EXPECT_NEAR(out.gates[1], 0.3f, 1e-6);
}

TEST(TopKRouter, NormalizedGatesSumToOne) {
  const auto out = choose({std::log(1.f), std::log(4.f), std::log(3.f), std::log(2.f)}, 3, true);
  EXPECT_NEAR(out.gates[0], 4.f / 9, 1e-6);
  EXPECT_NEAR(out.gates[0] + out.gates[1] + out.gates[2], 1.0f, 1e-6);
}

TEST(TopKRouter, EqualScoresGoToTheLowerId) {
  const auto out = choose({1, 1, 1, 1}, 3, false);
  EXPECT_EQ(out.expert_ids, (std::vector{ExpertId(0), ExpertId(1), ExpertId(2)}));
}

TEST(TopKRouter, LargeLogitsDoNotOverflow) {
  const auto out = choose({1000.0f, 999.0f, -1000.0f}, 3, false);
  EXPECT_NEAR(out.gates[0], 1.0f / (1.0f + std::exp(-1.0f)), 1e-6);
  EXPECT_EQ(out.gates[2], 0.0f);
}

}  // namespace
}  // namespace pregate::router
