#include "coordinator/placement/affinity.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/check.h"

namespace pregate::coordinator {
namespace {

/// The experts of one layer, on workers by their position in the problem.
class LayerExchange {
 public:
  LayerExchange(const PlacementProblem& problem, std::vector<std::optional<size_t>> owners,
                const std::vector<double>& loads, const std::vector<double>& together,
                double tolerance)
      : owners_(std::move(owners)),
        loads_(loads),
        together_(together),
        worker_loads_(problem.workers.size()) {
    for (size_t i = 0; i < owners_.size(); ++i) {
      if (owners_[i]) worker_loads_[*owners_[i]] += loads_[i];
    }
    set_limits(problem, tolerance);
    ties_.resize(owners_.size() * problem.workers.size());
    for (size_t i = 0; i < owners_.size(); ++i) {
      for (size_t j = 0; j < owners_.size(); ++j) {
        if (owners_[j]) tie(i, *owners_[j]) += pair(i, j);
      }
    }
  }

  /// Of each expert; nothing for a worker that is not in the problem.
  const std::vector<std::optional<size_t>>& run() {
    while (const auto best = best_exchange()) exchange(best->first, best->second);
    return owners_;
  }

 private:
  double pair(size_t a, size_t b) const { return a == b ? 0 : together_[a * owners_.size() + b]; }
  double& tie(size_t expert, size_t worker) {
    return ties_[expert * worker_loads_.size() + worker];
  }
  double tie(size_t expert, size_t worker) const {
    return ties_[expert * worker_loads_.size() + worker];
  }

  void set_limits(const PlacementProblem& problem, double tolerance) {
    double speed = 0;
    for (const WorkerRoom& worker : problem.workers) speed += worker.rows_per_second;
    const double total = std::accumulate(worker_loads_.begin(), worker_loads_.end(), 0.0);
    for (size_t w = 0; w < worker_loads_.size(); ++w) {
      const double share = speed > 0 ? problem.workers[w].rows_per_second / speed
                                     : 1 / static_cast<double>(worker_loads_.size());
      limits_.push_back(std::max(worker_loads_[w], total * share * (1 + tolerance)));
    }
  }

  /// What is gained in tokens that find two of their experts with one worker.
  double gain(size_t a, size_t b) const {
    const size_t from = *owners_[a], to = *owners_[b];
    return tie(a, to) - tie(a, from) + tie(b, from) - tie(b, to) - 2 * pair(a, b);
  }

  bool fits(size_t a, size_t b) const {
    const double more = loads_[a] - loads_[b];
    return worker_loads_[*owners_[b]] + more <= limits_[*owners_[b]] &&
           worker_loads_[*owners_[a]] - more <= limits_[*owners_[a]];
  }

  std::optional<std::pair<size_t, size_t>> best_exchange() const {
    std::optional<std::pair<size_t, size_t>> best;
    double most = 1e-9;
    for (size_t a = 0; a < owners_.size(); ++a) {
      for (size_t b = a + 1; b < owners_.size(); ++b) {
        if (!owners_[a] || !owners_[b] || owners_[a] == owners_[b]) continue;
        const double here = gain(a, b);
        if (here <= most || !fits(a, b)) continue;
        most = here;
        best = {a, b};
      }
    }
    return best;
  }

  void exchange(size_t a, size_t b) {
    const size_t from = *owners_[a], to = *owners_[b];
    for (size_t i = 0; i < owners_.size(); ++i) {
      const double change = pair(i, b) - pair(i, a);
      tie(i, from) += change;
      tie(i, to) -= change;
    }
    worker_loads_[from] += loads_[b] - loads_[a];
    worker_loads_[to] += loads_[a] - loads_[b];
    std::swap(owners_[a], owners_[b]);
  }

  std::vector<std::optional<size_t>> owners_;  // [expert]
  const std::vector<double>& loads_;           // [expert]
  const std::vector<double>& together_;        // [expert][expert]
  std::vector<double> worker_loads_, limits_;  // [worker]
  std::vector<double> ties_;  // [expert][worker]: tokens shared with what the worker has
};

}  // namespace

TracedUse traced_use(std::span<const router::RoutingTrace> traces) {
  PREGATE_CHECK(!traces.empty());
  TracedUse use;
  const size_t num_experts = traces.front().num_experts;
  for (const uint32_t layer : traces.front().layers) use.shape.layers.emplace_back(layer);
  use.shape.num_experts = static_cast<uint32_t>(num_experts);
  use.loads.assign(use.shape.layers.size(), std::vector<double>(num_experts));
  use.together.assign(use.shape.layers.size(), std::vector<double>(num_experts * num_experts));
  for (const router::RoutingTrace& trace : traces) {
    PREGATE_CHECK(trace.layers == traces.front().layers && trace.num_experts == num_experts);
    for (size_t token = 0; token < trace.num_tokens(); ++token) {
      for (size_t layer = 0; layer < trace.num_layers(); ++layer) {
        const auto experts = trace.experts_of(token, layer);
        for (const uint16_t a : experts) {
          ++use.loads[layer][a];
          for (const uint16_t b : experts) ++use.together[layer][a * num_experts + b];
        }
      }
    }
  }
  return use;
}

Placement with_affinity(const PlacementProblem& problem, const Placement& placement,
                        const TracedUse& use, double tolerance) {
  std::map<WorkerId, size_t> positions;
  for (size_t w = 0; w < problem.workers.size(); ++w) positions[problem.workers[w].id] = w;
  Placement result(placement.version(), use.shape);
  for (size_t i = 0; i < use.shape.layers.size(); ++i) {
    const LayerIdx layer = use.shape.layers[i];
    std::vector<std::optional<size_t>> owners;
    for (ExpertId expert(0); expert.value < use.shape.num_experts; ++expert.value) {
      const auto workers = placement.workers(layer, expert);
      PREGATE_CHECK(workers.size() == 1);
      const auto position = positions.find(workers.front());
      owners.push_back(position == positions.end() ? std::nullopt
                                                   : std::optional(position->second));
    }
    LayerExchange exchange(problem, std::move(owners), use.loads[i], use.together[i], tolerance);
    const auto& better = exchange.run();
    for (ExpertId expert(0); expert.value < use.shape.num_experts; ++expert.value) {
      const auto owner = better[expert.value];
      result.add_replica(
          layer, expert,
          owner ? problem.workers[*owner].id : placement.workers(layer, expert).front());
    }
  }
  return result;
}

std::vector<double> workers_per_token(const Placement& placement,
                                      std::span<const router::RoutingTrace> traces) {
  std::vector<double> sums(traces.front().num_layers());
  size_t num_tokens = 0;
  for (const router::RoutingTrace& trace : traces) {
    num_tokens += trace.num_tokens();
    for (size_t token = 0; token < trace.num_tokens(); ++token) {
      for (size_t layer = 0; layer < trace.num_layers(); ++layer) {
        std::set<WorkerId> workers;
        for (const uint16_t expert : trace.experts_of(token, layer)) {
          workers.insert(
              placement.workers(LayerIdx(trace.layers[layer]), ExpertId(expert)).front());
        }
        sums[layer] += static_cast<double>(workers.size());
      }
    }
  }
  for (double& sum : sums) sum /= static_cast<double>(std::max<size_t>(num_tokens, 1));
  return sums;
}

}  // namespace pregate::coordinator
