// Models whose tokens have one route: all layers of an expert are with the same workers.
#include "coordinator/placement/one_route.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::coordinator {
namespace {

using ::testing::IsEmpty;

constexpr uint32_t kLayers = 5;

PlacementProblem problem_of(uint64_t seed) {
  Random random(seed);
  PlacementProblem problem;
  for (uint32_t i = 0; i < kLayers; ++i) problem.shape.layers.push_back(LayerIdx(2 * i));
  problem.shape.num_experts = static_cast<uint32_t>(4 + random.next_below(20));
  problem.shape.one_route = true;
  const uint64_t num_workers = 2 + random.next_below(4);
  for (uint32_t i = 1; i <= num_workers; ++i) {
    problem.workers.push_back({WorkerId(i), 100.0 * static_cast<double>(1 + random.next_below(3)),
                               kLayers * problem.shape.num_experts});
  }
  problem.replicas = 1 + random.next_below(2);
  problem.loads.resize(kLayers);
  for (auto& layer : problem.loads) {
    for (uint32_t i = 0; i < problem.shape.num_experts; ++i) {
      layer.push_back(static_cast<double>(50 + random.next_below(500)));
    }
  }
  return problem;
}

TEST(OneRoute, AnExpertHasTheSameWorkersInAllLayers) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const PlacementProblem problem = problem_of(seed);
    const PlacementPlan plan = plan_placement(7, problem);
    EXPECT_THAT(plan.homeless, IsEmpty());
    EXPECT_EQ(plan.placement.version(), 7u);
    ASSERT_TRUE(joined(plan.placement, problem.shape)) << seed;
    for (ExpertId expert(0); expert.value < problem.shape.num_experts; ++expert.value) {
      EXPECT_EQ(plan.placement.workers(LayerIdx(4), expert).size(), problem.replicas);
    }
  }
}

TEST(OneRoute, SoItIsAfterALossAndWhenTheLoadChanges) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    PlacementProblem problem = problem_of(seed);
    const Placement before = plan_placement(1, problem).placement;
    Random random(seed + 1);
    for (uint32_t i = 0; i < problem.shape.num_experts; ++i) {
      const auto rows = static_cast<double>(random.next_below(2000));
      for (auto& layer : problem.loads) layer[i] = rows;
    }
    if (const auto better = better_placement(2, problem, before, 0.01)) {
      EXPECT_TRUE(joined(*better, problem.shape)) << seed;
      EXPECT_LT(imbalance(*better, problem), imbalance(before, problem)) << seed;
    }
    problem.workers.pop_back();
    const PlacementPlan repaired = repair_placement(3, problem, before);
    EXPECT_THAT(repaired.homeless, IsEmpty());
    EXPECT_TRUE(joined(repaired.placement, problem.shape)) << seed;
  }
}

TEST(OneRoute, TheBusiestWorkerIsTheSameInAllLayersSoTheirSumCounts) {
  PlacementProblem problem = problem_of(1);
  problem.workers = {{WorkerId(1), 100, 100}, {WorkerId(2), 100, 100}};
  problem.shape.num_experts = 4;
  problem.replicas = 1;
  // In every layer another expert is the busiest; in sum they are alike.
  problem.loads = {{9, 1, 1, 1}, {1, 9, 1, 1}, {1, 1, 9, 1}, {1, 1, 1, 9}, {3, 3, 3, 3}};
  const Placement placement = plan_placement(1, problem).placement;
  std::map<WorkerId, size_t> counts;
  for (ExpertId expert(0); expert.value < 4; ++expert.value) {
    ++counts[placement.workers(LayerIdx(0), expert).front()];
  }
  EXPECT_EQ(counts[WorkerId(1)], 2u);
  EXPECT_EQ(counts[WorkerId(2)], 2u);
}

/// 3 workers with room for 7 of 20 experts each: not one of four whole experts fits twice.
TEST(OneRoute, WhereMemoryIsShortLayersAreWhereTheyFit) {
  PlacementProblem problem = problem_of(1);
  problem.shape.num_experts = 4;
  problem.replicas = 1;
  problem.loads.clear();
  problem.workers = {{WorkerId(1), 100, 7}, {WorkerId(2), 100, 7}, {WorkerId(3), 100, 7}};
  const PlacementPlan plan = plan_placement(1, problem);
  EXPECT_THAT(plan.homeless, IsEmpty());
  EXPECT_FALSE(joined(plan.placement, problem.shape));
}

TEST(OneRoute, WhatAnOperatorPlacedOtherwiseStays) {
  PlacementProblem problem = problem_of(1);
  problem.replicas = 1;
  problem.workers = {{WorkerId(1), 100, 1000}, {WorkerId(2), 100, 1000}};
  Placement ordered(1, problem.shape);
  for (const LayerIdx layer : problem.shape.layers) {
    for (ExpertId expert(0); expert.value < problem.shape.num_experts; ++expert.value) {
      ordered.add_replica(layer, expert, WorkerId((layer.value / 2 + expert.value) % 2 + 1));
    }
  }
  EXPECT_TRUE(repair_placement(2, problem, ordered).placement.same_replicas(ordered));
}

}  // namespace
}  // namespace pregate::coordinator
