#include "coordinator/placement/busyness.h"

#include <algorithm>
#include <map>
#include <ranges>

namespace pregate::coordinator {
namespace {

std::map<WorkerId, double> rows_by_worker(const Placement& table, LayerIdx layer,
                                          const std::vector<double>& loads) {
  std::map<WorkerId, double> rows;
  for (uint32_t expert = 0; expert < loads.size(); ++expert) {
    const auto workers = table.workers(layer, ExpertId(expert));
    for (const WorkerId worker : workers) {
      rows[worker] += loads[expert] / static_cast<double>(workers.size());
    }
  }
  return rows;
}

}  // namespace

std::vector<double> busyness(const Placement& table, const PlacementShape& shape,
                             const ExpertLoads& loads) {
  std::vector<double> busy(shape.num_experts);
  for (size_t i = 0; i < loads.size(); ++i) {
    const auto rows = rows_by_worker(table, shape.layers[i], loads[i]);
    for (uint32_t expert = 0; expert < shape.num_experts; ++expert) {
      const auto workers = table.workers(shape.layers[i], ExpertId(expert));
      if (workers.empty()) continue;
      const auto rows_of = [&](WorkerId worker) { return rows.at(worker); };
      busy[expert] += std::ranges::min(workers | std::views::transform(rows_of));
    }
  }
  return busy;
}

}  // namespace pregate::coordinator
