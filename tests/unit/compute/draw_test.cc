#include "compute/draw.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "compute/draw_parts.h"

namespace pregate::compute {
namespace {

using ::testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(size_t count, double deviation) {
  Random random(7);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(deviation * random.next_normal());
  return logits;
}

/// Tokens that are drawn, at places close to one another.
std::set<uint32_t> tokens_drawn(const std::vector<float>& logits, Draw rule) {
  constexpr int kPlaces = 20000;
  std::set<uint32_t> tokens;
  for (int i = 0; i < kPlaces; ++i) {
    rule.place = (i + 0.5) / kPlaces;
    tokens.insert(draw(logits, rule));
  }
  return tokens;
}

/// In double, of tokens that `may_be_drawn`: where their places end.
std::vector<double> places(const std::vector<float>& logits, float temperature,
                           const std::function<bool(size_t)>& may_be_drawn) {
  const double largest = *std::ranges::max_element(logits);
  std::vector<double> ends(logits.size());
  double sum = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) {
    ends[i] = sum += may_be_drawn(i) ? std::exp((logits[i] - largest) / temperature) : 0.0;
  }
  for (double& end : ends) end /= sum;
  return ends;
}

/// Each token has the place that it has in double, but for a little at both ends.
void expect_places(const std::vector<float>& logits, Draw rule,
                   const std::function<bool(size_t)>& may_be_drawn) {
  constexpr double kOff = 1e-7;
  const std::vector<double> ends = places(logits, rule.temperature, may_be_drawn);
  double begin = 0.0;
  for (size_t i = 0; i < ends.size(); ++i) {
    for (const double place : {begin + kOff, ends[i] - kOff}) {
      if (ends[i] - begin < 2 * kOff) continue;
      rule.place = place;
      EXPECT_EQ(draw(logits, rule), i);
    }
    begin = ends[i];
  }
}

TEST(Draw, TokensHaveThePlacesThatSoftmaxGivesThem) {
  const std::vector<float> logits = random_logits(5000, 2.0);
  for (const float temperature : {0.1f, 1.0f, 1.7f, 1000.0f}) {
    SCOPED_TRACE(temperature);
    expect_places(logits, {.temperature = temperature}, [](size_t) { return true; });
  }
}

TEST(Draw, WhatIsCutOffLeavesItsPlaceToTheOthers) {
  const std::vector<float> logits = random_logits(2000, 2.0);
  std::vector<float> ordered = logits;
  std::ranges::sort(ordered, std::greater());
  const auto up_to = [&](size_t count) {
    return [&, count](size_t i) { return logits[i] >= ordered[count - 1]; };
  };
  for (const uint32_t k : {1u, 2u, 50u, 1999u, 2000u, 7000u}) {
    SCOPED_TRACE(k);
    expect_places(logits, {.temperature = 1.3f, .top_k = k}, up_to(std::min(k, 2000u)));
  }
  for (const float p : {0.001f, 0.3f, 0.9f, 0.9999f}) {
    SCOPED_TRACE(p);
    const std::vector<double> ends = places(ordered, 0.8f, [](size_t) { return true; });
    const auto count = std::ranges::lower_bound(ends, static_cast<double>(p)) - ends.begin() + 1;
    expect_places(logits, {.temperature = 0.8f, .top_p = p}, up_to(size_t(count)));
  }
  for (const float p : {0.0f, 0.01f, 0.5f, 1.0f}) {
    SCOPED_TRACE(p);
    expect_places(logits, {.temperature = 0.8f, .min_p = p},
                  [&](size_t i) { return std::exp((logits[i] - ordered[0]) / 0.8f) >= p; });
  }
}

/// top_p is of what top_k left, and that of what min_p left.
TEST(Draw, CutsComeOneAfterTheOther) {
  std::vector<float> logits;
  for (const double p : {0.05, 0.4, 0.15, 0.3, 0.1}) logits.push_back(float(std::log(p)));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1, .top_p = 0.69f}), ElementsAre(1, 3));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1, .top_p = 0.71f}), ElementsAre(1, 2, 3));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1, .top_k = 3, .top_p = 0.81f}),
              ElementsAre(1, 3));  // 0.7 of 0.85
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1, .min_p = 0.7f, .top_k = 3, .top_p = 0.5f}),
              ElementsAre(1));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1, .min_p = 0.7f, .top_k = 3, .top_p = 0.58f}),
              ElementsAre(1, 3));  // 0.4 of 0.7
}

TEST(Draw, EquallyLikelyTokensAreCutOffTogether) {
  const std::vector<float> logits = {0, 1, 0, 1, -1, 1};
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1, .top_k = 2}), ElementsAre(1, 3, 5));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1, .top_k = 4}), ElementsAre(0, 1, 2, 3, 5));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1, .top_p = 0.01f}), ElementsAre(1, 3, 5));
}

TEST(Draw, AnyNumberIsALogit) {
  const Draw one{.temperature = 1};
  EXPECT_THAT(tokens_drawn({kNan, 0, kNan, 0}, one), ElementsAre(1, 3));
  EXPECT_THAT(tokens_drawn({kNan, kNan}, one), ElementsAre(0));
  EXPECT_THAT(tokens_drawn({kNan, kNan}, {.temperature = 1, .top_k = 1, .top_p = 0.5f}),
              ElementsAre(0));
  EXPECT_THAT(tokens_drawn({-kInfinity, 0, -kInfinity}, one), ElementsAre(1));
  EXPECT_THAT(tokens_drawn({0, kInfinity, 3, kInfinity}, one), ElementsAre(1, 3));
  EXPECT_THAT(tokens_drawn({kNan, -kInfinity}, one), ElementsAre(1));
  EXPECT_THAT(tokens_drawn({-3e38f, 3e38f, 3e38f}, one), ElementsAre(1, 2));
  EXPECT_THAT(tokens_drawn({5}, {.temperature = 1, .top_k = 1, .top_p = 0.1f}), ElementsAre(0));
}

TEST(Draw, AnyTemperatureIsOne) {
  const std::vector<float> logits = {1, 2, 3, 3};
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 0}), ElementsAre(2));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1e-30f}), ElementsAre(2, 3));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 1e-44f}), ElementsAre(2, 3));
  EXPECT_THAT(tokens_drawn(logits, {.temperature = 3e38f}), ElementsAre(0, 1, 2, 3));
}

TEST(Draw, LikelihoodsAreExponentials) {
  for (uint32_t deficit = 0; deficit < kMaxDeficit; deficit += 99'991) {
    const double exact = std::exp2(-static_cast<double>(deficit) * 0x1p-25);
    ASSERT_NEAR(likelihood(deficit) / exact, 1.0, 3e-7) << deficit;
    ASSERT_GE(mass_of(likelihood(deficit)), 1u);
  }
  EXPECT_EQ(likelihood(0), 1.0f);
  EXPECT_EQ(likelihood(kMaxDeficit), 0.0f);
  EXPECT_GT(mass_of(likelihood(kMaxDeficit - 1)), 0u);
}

}  // namespace
}  // namespace pregate::compute
