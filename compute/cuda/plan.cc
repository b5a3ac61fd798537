#include "compute/cuda/plan.h"

#include <algorithm>

#include "compute/cuda/weights.h"

namespace pregate::compute::cuda {
namespace {

template <typename Body>
void for_tiles(uint32_t first, uint32_t num_rows, Body body) {
  const RowTiles tiles = cut_tiles(num_rows);
  for (uint32_t at = 0; at < num_rows; at += tiles.max_rows) {
    body(first + at, std::min(tiles.max_rows, num_rows - at));
  }
}

void add_tiles(ExpertsPlan& plan, const CudaExpert& expert, uint32_t first, uint32_t num_rows) {
  ExpertTiles tiles = tiles_of(expert);
  GemmTile &gate_up = tiles.gate_up, &down = tiles.down;
  plan.format = expert.weight_format;
  plan.max_gate_up_panels = std::max(plan.max_gate_up_panels, gate_up.num_panels);
  plan.max_down_panels = std::max(plan.max_down_panels, down.num_panels);
  for_tiles(first, num_rows, [&](uint32_t tile_first, uint32_t tile_rows) {
    gate_up.first_row = down.first_row = tile_first;
    gate_up.num_rows = down.num_rows = tile_rows;
    plan.gate_up.push_back(gate_up);
    plan.down.push_back(down);
    plan.max_rows = std::max(plan.max_rows, tile_rows);
  });
}

/// Sorts the tasks' rows by row of out; among those of one row the tasks' order stays.
void sort_products(ExpertsPlan& plan, std::span<const ExpertTask> tasks,
                   std::span<const uint32_t> first_of_task, size_t num_out_rows) {
  plan.first_place.assign(num_out_rows + 1, 0);
  for (const ExpertTask& task : tasks) {
    for (const uint32_t row : task.out_rows) ++plan.first_place[row + 1];
  }
  for (size_t r = 0; r < num_out_rows; ++r) plan.first_place[r + 1] += plan.first_place[r];
  plan.place.resize(plan.first_place.back());
  plan.gates.resize(plan.first_place.back());
  std::vector<uint32_t> next(plan.first_place.begin(), plan.first_place.end() - 1);
  for (size_t t = 0; t < tasks.size(); ++t) {
    for (size_t i = 0; i < tasks[t].rows.size(); ++i) {
      const uint32_t at = next[tasks[t].out_rows[i]]++;
      plan.place[at] = first_of_task[t] + uint32_t(i);
      plan.gates[at] = tasks[t].gates[i];
    }
  }
}

}  // namespace

ExpertsPlan plan_experts(std::span<const ExpertTask> tasks, size_t num_out_rows) {
  ExpertsPlan plan;
  std::vector<uint32_t> first_of_task;
  for (const ExpertTask& task : tasks) {
    const auto first = uint32_t(plan.source.size());
    first_of_task.push_back(first);
    plan.source.insert(plan.source.end(), task.rows.begin(), task.rows.end());
    plan.source.resize(round_up(plan.source.size(), kAtomRows), kNoRow);
    add_tiles(plan, static_cast<const CudaExpert&>(*task.expert), first,
              uint32_t(task.rows.size()));
  }
  sort_products(plan, tasks, first_of_task, num_out_rows);
  return plan;
}

ExpertTiles tiles_of(const CudaExpert& expert) {
  const WeightFormat format = expert.weight_format;
  return {.gate_up = {.weights = expert.gate_up(),
                      .num_panels = uint32_t(expert.num_gate_up_panels()),
                      .num_blocks = uint32_t(num_blocks(format, expert.hidden))},
          .down = {.weights = expert.down(),
                   .num_panels = uint32_t(expert.num_down_panels()),
                   .num_blocks = uint32_t(num_blocks(format, expert.intermediate))}};
}

}  // namespace pregate::compute::cuda
