#include "compute/cuda/plan.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "base/random.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/weights.h"

namespace pregate::compute::cuda {
namespace {

CudaExpert expert(size_t hidden, size_t intermediate) {
  CudaExpert expert;
  expert.weight_format = WeightFormat::kBf16;
  expert.hidden = hidden;
  expert.intermediate = intermediate;
  return expert;
}

std::vector<CudaExpert> experts_of(size_t count, size_t hidden, size_t intermediate) {
  std::vector<CudaExpert> experts;
  for (size_t i = 0; i < count; ++i) experts.push_back(expert(hidden, intermediate));
  return experts;
}

/// Tasks as a router makes them, with their lists.
struct Tasks {
  Tasks(const std::vector<CudaExpert>& experts, size_t num_rows, uint64_t seed)
      : rows(experts.size()), gates(experts.size()) {
    Random random(seed);
    for (uint32_t row = 0; row < num_rows; ++row) {
      for (size_t e = 0; e < experts.size(); ++e) {
        if (random.next_below(3) != 0) continue;
        rows[e].push_back(row);
        gates[e].push_back(static_cast<float>(random.next_double()));
      }
    }
    for (size_t e = 0; e < experts.size(); ++e) {
      views.push_back({&experts[e], rows[e], rows[e], gates[e]});
    }
  }

  std::vector<std::vector<uint32_t>> rows;
  std::vector<std::vector<float>> gates;
  std::vector<ExpertTask> views;
};

void expect_whole(const ExpertsPlan& plan, const Tasks& tasks) {
  std::set<uint32_t> places;
  for (const GemmTile& tile : plan.gate_up) {
    EXPECT_EQ(tile.first_row % kAtomRows, 0u);
    EXPECT_LE(tile.num_rows, std::min<size_t>(kMaxTileRows, plan.max_rows));
    EXPECT_LE(tile.num_panels, plan.max_gate_up_panels);
    for (uint32_t r = 0; r < tile.num_rows; ++r) {
      EXPECT_TRUE(places.insert(tile.first_row + r).second) << "in two tiles";
      EXPECT_NE(plan.source.at(tile.first_row + r), kNoRow);
    }
  }
  size_t expected = 0;
  for (const auto& rows : tasks.rows) expected += rows.size();
  EXPECT_EQ(places.size(), expected);
  EXPECT_EQ(std::ranges::count(plan.source, kNoRow),
            static_cast<std::ptrdiff_t>(plan.source.size() - expected));
  EXPECT_EQ(plan.source.size() % kAtomRows, 0u);
}

TEST(ExpertsPlan, EveryRowOfEveryTaskIsInOneTile) {
  const auto experts = experts_of(5, 128, 96);
  for (const size_t num_rows : {0, 1, 3, 100, 600, 2000}) {
    const Tasks tasks(experts, num_rows, num_rows);
    const ExpertsPlan plan = plan_experts(tasks.views, num_rows);
    expect_whole(plan, tasks);
    ASSERT_EQ(plan.gate_up.size(), plan.down.size());
    for (size_t i = 0; i < plan.down.size(); ++i) {
      EXPECT_EQ(plan.down[i].first_row, plan.gate_up[i].first_row);
      EXPECT_EQ(plan.down[i].num_rows, plan.gate_up[i].num_rows);
    }
  }
}

TEST(ExpertsPlan, ProductsOfARowAreInTheOrderOfTheTasks) {
  const auto experts = experts_of(4, 64, 64);
  const Tasks tasks(experts, 50, 1);
  const ExpertsPlan plan = plan_experts(tasks.views, 50);
  for (uint32_t row = 0; row < 50; ++row) {
    uint32_t at = plan.first_place[row];
    for (size_t e = 0; e < experts.size(); ++e) {
      const auto found = std::ranges::find(tasks.rows[e], row);
      if (found == tasks.rows[e].end()) continue;
      ASSERT_LT(at, plan.first_place[row + 1]);
      EXPECT_EQ(plan.source[plan.place[at]], row);
      EXPECT_EQ(plan.gates[at], tasks.gates[e][size_t(found - tasks.rows[e].begin())]);
      ++at;
    }
    EXPECT_EQ(at, plan.first_place[row + 1]);
  }
}

TEST(ExpertsPlan, MostPanelsAreThoseOfTheLargestExpert) {
  auto experts = experts_of(1, 128, 64);
  experts.push_back(expert(128, 640));
  const Tasks tasks(experts, 40, 2);
  const ExpertsPlan plan = plan_experts(tasks.views, 40);
  EXPECT_EQ(plan.max_gate_up_panels, 10u);
  EXPECT_EQ(plan.max_down_panels, 1u);
}

TEST(ExpertsPlan, NoTasksAreNoWork) {
  const ExpertsPlan plan = plan_experts({}, 3);
  EXPECT_TRUE(plan.empty());
  EXPECT_EQ(plan.first_place, std::vector<uint32_t>(4, 0));
}

TEST(CutTiles, MakesFewTilesOfNearlyEqualSize) {
  const RowTiles tiles = cut_tiles(500);
  EXPECT_EQ(tiles.num_tiles, 3u);
  EXPECT_EQ(tiles.max_rows, 168u);
}

TEST(CutTiles, OneTileHasAllRows) {
  EXPECT_EQ(cut_tiles(3).num_tiles, 1u);
  EXPECT_EQ(cut_tiles(3).max_rows, 3u);
  EXPECT_EQ(cut_tiles(0).num_tiles, 0u);
}

}  // namespace
}  // namespace pregate::compute::cuda
