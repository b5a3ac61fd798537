#include "compute/logit_changes.h"

#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/draw.h"

namespace pregate::compute {
namespace {

using ::testing::ElementsAre;
using ::testing::IsNan;

std::vector<float> changed(std::vector<float> logits, const LogitChanges& changes) {
  change_logits(logits, changes);
  return logits;
}

TEST(LogitChanges, ABiasComesBeforePenaltiesAndWhatIsForbiddenLast) {
  const std::vector<TokenBias> biases = {{3, 2.0f}, {1, -3.0f}, {2, 1.0f}};
  const std::vector<SaidToken> said = {{2, 3}, {1, 0}, {0, 1}};
  const std::vector<uint32_t> forbidden = {3, 3};
  const Penalties penalties{.repetition = 2.0f, .frequency = 0.5f, .presence = 0.25f};
  EXPECT_THAT(changed({4, 1, 2, 5, 6}, {biases, said, penalties, forbidden}),
              ElementsAre(1.25f, -4.0f, -0.25f, -INFINITY, 6.0f));
  EXPECT_THAT(changed({4, 1, 2, 5, 6}, {}), ElementsAre(4, 1, 2, 5, 6));
}

TEST(LogitChanges, TokensWithoutALogitArePassedOver) {
  const std::vector<TokenBias> biases = {{2, 1.0f}, {~0u, 1.0f}, {1, 1.0f}};
  const std::vector<SaidToken> said = {{~0u, 1}, {0, 1}, {2, 1}};
  const std::vector<uint32_t> forbidden = {2, ~0u};
  EXPECT_THAT(changed({0, 0}, {biases, said, {.presence = 1.0f}, forbidden}), ElementsAre(-1, 1));
}

TEST(LogitChanges, AnyNumberIsALogit) {
  const std::vector<TokenBias> biases = {{0, 1.0f}, {1, 100.0f}, {2, -INFINITY}};
  const std::vector<uint32_t> forbidden = {3, 4};
  EXPECT_THAT(changed({NAN, 3.4e38f, INFINITY, NAN, INFINITY}, {.biases = biases}),
              ElementsAre(IsNan(), 3.4e38f, IsNan(), IsNan(), INFINITY));
  EXPECT_THAT(changed({0, 0, 0, NAN, INFINITY}, {.forbidden = forbidden}),
              ElementsAre(0, 0, 0, -INFINITY, -INFINITY));
}

/// Divided, then a product subtracted, then the rest: each time rounded. These numbers tell that
/// from any other order, from a fused product and from a reciprocal.
TEST(LogitChanges, PenaltiesAreRoundedOneAfterTheOther) {
  const Penalties penalties{.repetition = 1.43f, .frequency = 0.45f, .presence = 0.4f};
  EXPECT_EQ(penalize(5.3f, 7, penalties), 0.15629419684410095f);
  EXPECT_EQ(penalize(5.3f, 0, penalties), 3.706294059753418f);
  EXPECT_EQ(penalize(-2.0f, 0, penalties), -2.86f);
}

TEST(LogitChanges, ADrawMakesThemAndKeepsLogitsUnlessTheyMayChange) {
  std::vector<float> logits = {1, 2, 3};
  const std::vector<uint32_t> forbidden = {2};
  for (const float temperature : {0.0f, 1e-3f}) {
    const Draw rule{.temperature = temperature, .changes = {.forbidden = forbidden}};
    EXPECT_EQ(draw(logits, rule), 1u);
    EXPECT_THAT(logits, ElementsAre(1, 2, 3));
  }
  EXPECT_EQ(draw_in_place(logits, {.changes = {.forbidden = forbidden}}), 1u);
  EXPECT_THAT(logits, ElementsAre(1, 2, -INFINITY));
}

}  // namespace
}  // namespace pregate::compute
