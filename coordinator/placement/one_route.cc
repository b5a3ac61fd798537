#include "coordinator/placement/one_route.h"

#include <algorithm>
#include <functional>

namespace pregate::coordinator {
namespace {

PlacementShape joined(const PlacementShape& shape) {
  return {.layers = {shape.layers.front()}, .num_experts = shape.num_experts};
}

void add_replicas(Placement& placement, LayerIdx layer, ExpertId expert,
                  std::span<const WorkerId> workers) {
  for (const WorkerId worker : workers) placement.add_replica(layer, expert, worker);
}

}  // namespace

PlacementProblem joined(const PlacementProblem& problem) {
  PlacementProblem result = problem;
  result.shape = joined(problem.shape);
  for (WorkerRoom& worker : result.workers) worker.max_experts /= problem.shape.layers.size();
  if (problem.loads.empty()) return result;
  std::vector<double> sums(problem.shape.num_experts);
  for (const auto& layer : problem.loads)
    std::ranges::transform(layer, sums, sums.begin(), std::plus());
  result.loads = {std::move(sums)};
  return result;
}

std::optional<Placement> joined(const Placement& placement, const PlacementShape& shape) {
  const LayerIdx first = shape.layers.front();
  Placement result(placement.version(), joined(shape));
  for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
    const auto workers = placement.workers(first, expert);
    for (const LayerIdx layer : shape.layers) {
      if (!std::ranges::equal(placement.workers(layer, expert), workers)) return std::nullopt;
    }
    add_replicas(result, first, expert, workers);
  }
  return result;
}

Placement in_all_layers(const Placement& joined, const PlacementShape& shape) {
  Placement result(joined.version(), shape);
  for (const LayerIdx layer : shape.layers) {
    for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
      add_replicas(result, layer, expert, joined.workers(shape.layers.front(), expert));
    }
  }
  return result;
}

}  // namespace pregate::coordinator
