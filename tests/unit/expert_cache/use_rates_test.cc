#include "worker/experts/cache/use_rates.h"

#include <gtest/gtest.h>

namespace pregate::worker {
namespace {

constexpr size_t kLayers = 4;

constexpr ExpertKey key(uint32_t expert, uint32_t layer) {
  return {LayerIdx(layer), ExpertId(expert)};
}

TEST(UseRates, WhatEveryStepNeedsComesWithItsLayer) {
  UseRates rates(kLayers);
  for (size_t step = 0; step < 200; ++step) rates.used(key(1, 2), step * kLayers + 2);
  EXPECT_NEAR(rates.expected_distance(key(1, 2), 200 * kLayers), 2.0, 0.2);
  EXPECT_NEAR(rates.expected_distance(key(1, 2), 200 * kLayers + 1), 1.0, 0.2);
  EXPECT_NEAR(rates.expected_distance(key(1, 2), 199 * kLayers + 3), 3.0, 0.2);
}

TEST(UseRates, WhatEveryThirdStepNeedsComesTwoStepsLater) {
  UseRates rates(kLayers);
  for (size_t step = 0; step < 300; step += 3) rates.used(key(1, 0), step * kLayers);
  // Between 4 and 16 layers, by how long ago it was.
  EXPECT_NEAR(rates.expected_distance(key(1, 0), 298 * kLayers), 2.0 * kLayers, 1.0);
}

TEST(UseRates, WhatWasNeededLatelyComesSooner) {
  UseRates rates(kLayers);
  for (size_t step = 0; step < 32; ++step) {
    rates.used(key(step < 16 ? 1 : 2, 0), step * kLayers);
    rates.used(key(3, 0), step * kLayers);
  }
  const router::LayerTime now = 32 * kLayers;
  EXPECT_LT(rates.expected_distance(key(3, 0), now), rates.expected_distance(key(2, 0), now));
  EXPECT_LT(rates.expected_distance(key(2, 0), now), rates.expected_distance(key(1, 0), now));
  EXPECT_LT(rates.expected_distance(key(1, 0), now), rates.expected_distance(key(4, 0), now));
}

TEST(UseRates, OfTheSameShareTheNearerLayerFirst) {
  UseRates rates(kLayers);
  constexpr router::LayerTime now = 100 * kLayers + 2;
  for (router::LayerTime time = 0; time < now; ++time) {
    rates.used(key(1, static_cast<uint32_t>(time % kLayers)), time);
  }
  // Layer 2 is next, then 3, 0 and 1.
  EXPECT_LT(rates.expected_distance(key(1, 2), now), rates.expected_distance(key(1, 3), now));
  EXPECT_LT(rates.expected_distance(key(1, 3), now), rates.expected_distance(key(1, 0), now));
  EXPECT_LT(rates.expected_distance(key(1, 0), now), rates.expected_distance(key(1, 1), now));
}

}  // namespace
}  // namespace pregate::worker
