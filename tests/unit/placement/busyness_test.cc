#include "coordinator/placement/busyness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

using ::testing::ElementsAre;

const PlacementShape kShape{.layers = {LayerIdx(0), LayerIdx(2)}, .num_experts = 3};

/// Worker 1 holds experts 0 and 1, worker 2 expert 2 and a replica of 1, in both layers.
Placement two_workers() {
  Placement table(1, kShape);
  for (const LayerIdx layer : kShape.layers) {
    table.add_replica(layer, ExpertId(0), WorkerId(1));
    table.add_replica(layer, ExpertId(1), WorkerId(1));
    table.add_replica(layer, ExpertId(1), WorkerId(2));
    table.add_replica(layer, ExpertId(2), WorkerId(2));
  }
  return table;
}

TEST(Busyness, IsThatOfTheLeastBusyHolder) {
  EXPECT_THAT(busyness(two_workers(), kShape, {{10, 4, 1}, {0, 0, 0}}), ElementsAre(12, 3, 3));
}

TEST(Busyness, AddsUpOverTheLayers) {
  EXPECT_THAT(busyness(two_workers(), kShape, {{10, 4, 1}, {0, 0, 7}}), ElementsAre(12, 3, 10));
}

TEST(Busyness, WithoutLoadsOrHoldersIsNone) {
  EXPECT_THAT(busyness(two_workers(), kShape, {}), ElementsAre(0, 0, 0));
  const Placement empty(1, kShape);
  EXPECT_THAT(busyness(empty, kShape, {{10, 4, 1}, {0, 0, 7}}), ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace pregate::coordinator
