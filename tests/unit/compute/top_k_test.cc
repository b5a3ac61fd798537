#include "compute/top_k.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace pregate::compute {
namespace {

struct Chosen {
  std::vector<uint32_t> ids;
  std::vector<float> gates;
};

Chosen choose(std::vector<float> logits, size_t top_k, bool normalize) {
  Chosen out{std::vector<uint32_t>(top_k), std::vector<float>(top_k)};
  choose_top_k(logits, {top_k, normalize}, {out.ids, out.gates});
  return out;
}

TEST(TopK, GatesAreTheSoftmaxOfTheBest) {
  const auto out = choose({std::log(1.f), std::log(4.f), std::log(3.f), std::log(2.f)}, 2, false);
  EXPECT_EQ(out.ids, (std::vector<uint32_t>{1, 2}));
  EXPECT_NEAR(out.gates[0], 0.4f, 1e-6);
  EXPECT_NEAR(out.gates[1], 0.3f, 1e-6);
}

TEST(TopK, NormalizedGatesSumToOne) {
  const auto out = choose({std::log(1.f), std::log(4.f), std::log(3.f), std::log(2.f)}, 3, true);
  EXPECT_NEAR(out.gates[0], 4.f / 9, 1e-6);
  EXPECT_NEAR(out.gates[0] + out.gates[1] + out.gates[2], 1.0f, 1e-6);
}

TEST(TopK, EqualScoresGoToTheLowerId) {
  const auto out = choose({1, 1, 1, 1}, 3, false);
  EXPECT_EQ(out.ids, (std::vector<uint32_t>{0, 1, 2}));
}

TEST(TopK, LargeLogitsDoNotOverflow) {
  const auto out = choose({1000.0f, 999.0f, -1000.0f}, 3, false);
  EXPECT_NEAR(out.gates[0], 1.0f / (1.0f + std::exp(-1.0f)), 1e-6);
  EXPECT_EQ(out.gates[2], 0.0f);
}

TEST(TopK, NaNIsBelowAllAndZeroHasNoSign) {
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(choose({nan, -infinity, -0.0f, 0.0f}, 4, false).ids,
            (std::vector<uint32_t>{2, 3, 1, 0}));
  EXPECT_EQ(choose({nan, nan, nan}, 2, false).ids, (std::vector<uint32_t>{0, 1}));
}

}  // namespace
}  // namespace pregate::compute
