#include "coordinator/placement/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

using ::testing::ElementsAre;

PlacementShape shape_of(uint32_t num_layers, uint32_t num_experts) {
  PlacementShape shape;
  for (uint32_t i = 0; i < num_layers; ++i) shape.layers.push_back(LayerIdx(i));
  shape.num_experts = num_experts;
  return shape;
}

size_t total(const Placement& placement, WorkerId worker) {
  size_t count = 0;
  for (const auto& range : placement.assigned_to(worker)) count += range.count;
  return count;
}

TEST(EvenPlacement, PlacesEachExpertOnceAndEvenly) {
  for (const uint32_t num_workers : {1u, 2u, 3u, 5u, 7u, 20u}) {
    for (const uint32_t num_experts : {8u, 13u, 60u}) {
      std::vector<WorkerId> workers;
      for (uint32_t id = 1; id <= num_workers; ++id) workers.push_back(WorkerId(id * 2));
      const auto shape = shape_of(11, num_experts);
      const Placement placement = even_placement(7, shape, workers);
      for (const LayerIdx layer : shape.layers) {
        for (uint32_t expert = 0; expert < num_experts; ++expert) {
          ASSERT_EQ(placement.workers(layer, ExpertId(expert)).size(), 1u);
        }
      }
      const size_t all = size_t{11} * num_experts;
      for (const WorkerId worker : workers) {
        EXPECT_GE(total(placement, worker), all / num_workers);
        EXPECT_LE(total(placement, worker), (all + num_workers - 1) / num_workers);
      }
    }
  }
}

TEST(EvenPlacement, GivesNeighboursToOneWorker) {
  const WorkerId workers[] = {WorkerId(1), WorkerId(2)};
  const Placement placement = even_placement(1, shape_of(2, 5), workers);
  using Range = protocol::ExpertRange;
  EXPECT_THAT(placement.assigned_to(WorkerId(1)),
              ElementsAre(Range{LayerIdx(0), ExpertId(0), 3}, Range{LayerIdx(1), ExpertId(0), 2}));
  EXPECT_THAT(placement.assigned_to(WorkerId(2)),
              ElementsAre(Range{LayerIdx(0), ExpertId(3), 2}, Range{LayerIdx(1), ExpertId(2), 3}));
}

TEST(Placement, DenseLayersHaveNoExperts) {
  model::ModelConfig config;
  config.num_experts = 4;
  config.layers.resize(3);
  config.layers[1].is_moe = false;
  const WorkerId workers[] = {WorkerId(1)};
  const Placement placement = even_placement(1, placement_shape(config), workers);
  EXPECT_EQ(placement.workers(LayerIdx(0), ExpertId(3)).size(), 1u);
  EXPECT_TRUE(placement.workers(LayerIdx(1), ExpertId(0)).empty());
  EXPECT_EQ(total(placement, WorkerId(1)), 8u);
  // Outside the table there is nothing, and no harm.
  EXPECT_TRUE(placement.workers(LayerIdx(9), ExpertId(0)).empty());
  EXPECT_TRUE(placement.workers(LayerIdx(0), ExpertId(4)).empty());
}

}  // namespace
}  // namespace pregate::coordinator
