#include "coordinator/placement/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <queue>

#include "coordinator/placement/one_route.h"
#include "coordinator/placement/packing.h"

namespace pregate::coordinator {
namespace {

/// What a worker's memory is good for: it holds no expert twice.
size_t useful_room(const PlacementProblem& problem) {
  const size_t num_items = problem.shape.layers.size() * problem.shape.num_experts;
  size_t room = 0;
  for (const WorkerRoom& worker : problem.workers) room += std::min(worker.max_experts, num_items);
  return room;
}

size_t workers_with_room(const PlacementProblem& problem) {
  return static_cast<size_t>(std::count_if(problem.workers.begin(), problem.workers.end(),
                                           [](const auto& w) { return w.max_experts > 0; }));
}

/// How many replicas there can be.
struct Replication {
  size_t of_each = 0;
  size_t spare = 0;    ///< Over all layers, for the busiest.
  size_t at_most = 0;  ///< Of one expert.
};

Replication replication(const PlacementProblem& problem) {
  const size_t num_items = problem.shape.layers.size() * problem.shape.num_experts;
  Replication result;
  if (num_items == 0) return result;
  const size_t room = useful_room(problem);
  const size_t num_workers = workers_with_room(problem);
  const size_t wanted = std::min(std::max<size_t>(problem.replicas, 1), num_workers);
  result.of_each = std::min(wanted, room / num_items);
  const size_t left = room - result.of_each * num_items;
  if (result.of_each < wanted) {
    result.spare = left;
    result.at_most = result.of_each + 1;
  } else {
    const double extra = std::clamp(problem.extra_replicas, 0.0, 1e6);
    const double most = std::round(extra * static_cast<double>(result.of_each * num_items));
    result.spare = std::min(left, static_cast<size_t>(most));
    result.at_most = num_workers;
  }
  return result;
}

/// Replicas of each item. Every layer gets as many spare ones, up to one.
std::vector<size_t> replica_counts(const Packing& packing, const Replication& replication) {
  std::vector<size_t> counts(packing.num_items(), replication.of_each);
  for (size_t layer = 0; layer < packing.num_layers(); ++layer) {
    const auto until = [&](size_t l) { return replication.spare * l / packing.num_layers(); };
    // The busiest replica first, of equals the lower expert.
    std::priority_queue<std::pair<double, int64_t>> queue;
    const auto enqueue = [&](size_t item) {
      if (counts[item] >= replication.at_most) return;
      const double replicas = static_cast<double>(std::max<size_t>(counts[item], 1));
      queue.emplace(packing.weight(item) / replicas, -static_cast<int64_t>(item));
    };
    for (size_t i = 0; i < packing.num_experts(); ++i) enqueue(layer * packing.num_experts() + i);
    for (size_t spare = until(layer + 1) - until(layer); spare > 0 && !queue.empty(); --spare) {
      const auto item = static_cast<size_t>(-queue.top().second);
      queue.pop();
      ++counts[item];
      enqueue(item);
    }
  }
  return counts;
}

/// Each worker may use so much of its memory for the layer at hand that as much is left for each of
/// those to come.
std::vector<size_t> bounds_of_layer(const Packing& packing, size_t layer) {
  const size_t layers_left = packing.num_layers() - layer;
  std::vector<size_t> bounds;
  for (size_t worker = 0; worker < packing.num_workers(); ++worker) {
    const size_t room = packing.room(worker);
    bounds.push_back(room / layers_left + (room % layers_left > 0 ? 1 : 0));
  }
  return bounds;
}

/// The heaviest replica first, to the worker that is done first with it.
void pack_layer(Packing& packing, size_t layer, const std::vector<size_t>& counts) {
  struct Replica {
    double share;
    size_t number, item;
  };
  std::vector<Replica> replicas;
  for (size_t i = 0; i < packing.num_experts(); ++i) {
    const size_t item = layer * packing.num_experts() + i;
    packing.expect(item, counts[item]);
    for (size_t number = 0; number < counts[item]; ++number) {
      replicas.push_back({packing.share(item), number, item});
    }
  }
  std::sort(replicas.begin(), replicas.end(), [](const Replica& a, const Replica& b) {
    return std::tuple(-a.share, a.number, a.item) < std::tuple(-b.share, b.number, b.item);
  });
  for (const Replica& replica : replicas) {
    if (const auto worker = packing.best_worker(replica.item)) packing.add(replica.item, *worker);
  }
}

void even_out_layer(Packing& packing, size_t layer) {
  for (size_t i = 0; i < packing.num_experts() + packing.num_workers(); ++i) {
    const auto step = packing.relieve(layer);
    if (!step) return;
    packing.take(*step);
  }
}

void even_out_overall(Packing& packing) {
  for (size_t i = 0; i < 2 * packing.num_workers(); ++i) {
    const auto step = packing.relieve_overall();
    if (!step) return;
    packing.take(*step);
  }
}

/// Drops a replica of an expert that has more than `keep`, for `item` needs the room more: one of
/// the expert with the most, where `item` is not if possible. False if there is none.
bool make_room(Packing& packing, size_t item, size_t keep) {
  std::pair<bool, size_t> most;  // away from `item`, replicas
  size_t victim = 0, worker = 0;
  for (size_t other = 0; other < packing.num_items(); ++other) {
    const size_t replicas = packing.holders(other).size();
    if (replicas <= keep || std::pair(true, replicas) <= most) continue;
    for (const size_t holder : packing.holders(other)) {
      const std::pair rank(!packing.holds(holder, item), replicas);
      if (packing.is_over_full(holder) || rank <= most) continue;
      most = rank;
      victim = other;
      worker = holder;
    }
  }
  if (most.second == 0) return false;
  packing.drop(victim, worker);
  return true;
}

/// Where the only room left is with workers that hold `item`: something that one of them does not
/// hold moves there from a worker that does not hold `item`.
bool add_by_shifting(Packing& packing, size_t item) {
  for (size_t to = 0; to < packing.num_workers(); ++to) {
    if (packing.room(to) == 0) continue;
    for (size_t from = 0; from < packing.num_workers(); ++from) {
      if (packing.holds(from, item)) continue;
      for (size_t layer = 0; layer < packing.num_layers(); ++layer) {
        for (const size_t other : packing.items_at(layer, from)) {
          if (packing.holds(to, other)) continue;
          packing.take({from, to, other, {}});
          packing.add(item, from);
          return true;
        }
      }
    }
  }
  return false;
}

/// What packing layer by layer had no room for, because room was left with the wrong workers or
/// given to a spare replica.
void complete(Packing& packing, size_t of_each) {
  for (size_t item = 0; item < packing.num_items(); ++item) {
    while (packing.holders(item).size() < of_each) {
      if (const auto worker = packing.best_worker(item)) {
        packing.add(item, *worker);
      } else if (!add_by_shifting(packing, item) && !make_room(packing, item, of_each)) {
        break;
      }
    }
    packing.settle(item);
  }
}

/// Experts of a layer with the same load and as many replicas change places so that neighbours are
/// with one worker: short tables, and what people expect to see.
void line_up(Packing& packing, size_t layer) {
  std::map<std::pair<double, size_t>, std::vector<size_t>> alike;
  for (size_t i = 0; i < packing.num_experts(); ++i) {
    const size_t item = layer * packing.num_experts() + i;
    alike[{packing.weight(item), packing.holders(item).size()}].push_back(item);
  }
  for (const auto& [key, items] : alike) {
    std::vector<std::vector<size_t>> places;
    for (const size_t item : items) {
      places.push_back(packing.holders(item));
      std::sort(places.back().begin(), places.back().end());
    }
    std::sort(places.begin(), places.end());
    for (size_t i = 0; i < items.size(); ++i) packing.set_holders(items[i], places[i]);
  }
}

PlacementPlan to_plan(uint64_t version, const PlacementProblem& problem, const Packing& packing) {
  PlacementPlan plan{packing.to_placement(version), {}};
  for (size_t item = 0; item < packing.num_items(); ++item) {
    if (!packing.holders(item).empty()) continue;
    plan.homeless.emplace_back(problem.shape.layers[packing.layer_of(item)],
                               ExpertId(static_cast<uint32_t>(item % packing.num_experts())));
  }
  return plan;
}

/// Brings every item to `replicas`, as far as there is room. The first one gets its room from an
/// expert that has several if need be.
void add_missing(Packing& packing, size_t replicas) {
  std::vector<size_t> missing;
  for (size_t item = 0; item < packing.num_items(); ++item) {
    if (packing.holders(item).size() < replicas) missing.push_back(item);
  }
  std::stable_sort(missing.begin(), missing.end(), [&](size_t a, size_t b) {
    return std::pair(packing.layer_of(a), -packing.weight(a)) <
           std::pair(packing.layer_of(b), -packing.weight(b));
  });
  for (const size_t item : missing) {
    auto worker = packing.best_worker(item);
    if (!worker && replicas == 1 && make_room(packing, item, 1)) worker = packing.best_worker(item);
    if (worker) packing.add(item, *worker);
  }
}

void repair(Packing& packing, const PlacementProblem& problem) {
  for (size_t replicas = 1; replicas <= std::max<size_t>(problem.replicas, 1); ++replicas) {
    add_missing(packing, replicas);
  }
}

double mean_of_longest(const Packing& packing) {
  if (packing.num_layers() == 0 || packing.num_workers() == 0) return 1;
  double sum = 0;
  for (size_t layer = 0; layer < packing.num_layers(); ++layer) sum += packing.longest_time(layer);
  return sum / static_cast<double>(packing.num_layers());
}

/// The state of a packing that was worth most: what was gained less what the moves cost.
class BestState {
 public:
  BestState(Packing& packing, double time, double cost_per_move)
      : packing_(packing),
        begin_(packing.mark()),
        best_(begin_),
        time_(time),
        cost_per_move_(cost_per_move) {}

  void consider(double time) {
    const auto moves = static_cast<double>(packing_.num_moves_since(begin_));
    const double worth = time_ - time - cost_per_move_ * moves;
    if (worth <= most_) return;
    most_ = worth;
    best_ = packing_.mark();
  }
  void restore() { packing_.roll_back(best_); }

 private:
  Packing& packing_;
  const size_t begin_;
  size_t best_;
  const double time_;  // before
  const double cost_per_move_;
  double most_ = 1e-9;
};

/// Drops a replica of the expert of the layer that is furthest over its number, if there is one.
void drop_spare(Packing& packing, size_t layer, const std::vector<size_t>& counts) {
  std::optional<size_t> victim;
  for (size_t i = 0; i < packing.num_experts(); ++i) {
    const size_t item = layer * packing.num_experts() + i;
    if (packing.holders(item).size() <= counts[item]) continue;
    if (!victim || packing.share(item) < packing.share(*victim)) victim = item;
  }
  if (!victim) return;
  const auto& holders = packing.holders(*victim);
  const auto busiest = std::max_element(holders.begin(), holders.end(), [&](size_t a, size_t b) {
    return packing.time(layer, a) < packing.time(layer, b);
  });
  packing.drop(*victim, *busiest);
}

/// Replicas for those that became busy, from those that are so no more.
void replicate_layer(Packing& packing, size_t layer, const std::vector<size_t>& counts,
                     BestState& best) {
  std::vector<size_t> wanting;
  for (size_t i = 0; i < packing.num_experts(); ++i) {
    const size_t item = layer * packing.num_experts() + i;
    if (packing.holders(item).size() < counts[item]) wanting.push_back(item);
  }
  std::stable_sort(wanting.begin(), wanting.end(),
                   [&](size_t a, size_t b) { return packing.share(a) > packing.share(b); });
  for (const size_t item : wanting) {
    while (packing.holders(item).size() < counts[item]) {
      const size_t before = packing.mark();
      drop_spare(packing, layer, counts);
      const auto worker = packing.best_worker(item);
      if (!worker) {
        packing.roll_back(before);
        break;
      }
      packing.add(item, *worker);
      best.consider(packing.longest_time(layer));
    }
  }
}

void improve_layer(Packing& packing, size_t layer, const std::vector<size_t>& counts,
                   double cost_per_move) {
  BestState best(packing, packing.longest_time(layer), cost_per_move);
  replicate_layer(packing, layer, counts, best);
  for (size_t i = 0; i < packing.num_experts() + packing.num_workers(); ++i) {
    const auto step = packing.relieve(layer);
    if (!step) break;
    packing.take(*step);
    best.consider(packing.longest_time(layer));
  }
  best.restore();
}

/// For a worker that no layer needs, but that can take something of several.
void improve_overall(Packing& packing, double cost_per_move) {
  BestState best(packing, packing.longest_total_time(), cost_per_move);
  for (size_t i = 0; i < packing.num_items(); ++i) {
    const auto step = packing.relieve_overall();
    if (!step) break;
    packing.take(*step);
    best.consider(packing.longest_total_time());
  }
  best.restore();
}

PlacementPlan plan_by_layer(uint64_t version, const PlacementProblem& problem) {
  Packing packing(problem);
  const Replication allowed = replication(problem);
  const std::vector<size_t> counts = replica_counts(packing, allowed);
  for (size_t layer = 0; layer < packing.num_layers(); ++layer) {
    packing.set_layer_bounds(bounds_of_layer(packing, layer));
    pack_layer(packing, layer, counts);
    even_out_layer(packing, layer);
  }
  packing.set_layer_bounds({});
  complete(packing, allowed.of_each);
  even_out_overall(packing);
  for (size_t layer = 0; layer < packing.num_layers(); ++layer) line_up(packing, layer);
  return to_plan(version, problem, packing);
}

PlacementPlan repair_by_layer(uint64_t version, const PlacementProblem& problem,
                              const Placement& current) {
  Packing packing(problem, current);
  repair(packing, problem);
  return to_plan(version, problem, packing);
}

std::optional<Placement> better_by_layer(uint64_t version, const PlacementProblem& problem,
                                         const Placement& current, double min_gain) {
  Packing packing(problem, current);
  repair(packing, problem);
  const size_t begin = packing.mark();
  std::vector<size_t> counts = replica_counts(packing, replication(problem));
  for (size_t& count : counts) count = std::max(count, problem.replicas);
  // Of a layer: what a tenth of its experts costs, for each of them; and so for all layers.
  const double cost = min_gain * 10 / static_cast<double>(packing.num_experts());
  for (size_t layer = 0; layer < packing.num_layers(); ++layer) {
    improve_layer(packing, layer, counts, cost);
  }
  improve_overall(packing, cost / static_cast<double>(packing.num_layers()));
  if (packing.mark() == begin) return std::nullopt;
  return packing.to_placement(version);
}

/// Whether experts are to be placed with all their layers.
bool joins_layers(const PlacementProblem& problem) {
  return problem.shape.one_route && problem.shape.layers.size() > 1;
}

}  // namespace

PlacementPlan plan_placement(uint64_t version, const PlacementProblem& problem) {
  if (joins_layers(problem)) {
    const PlacementPlan plan = plan_by_layer(version, joined(problem));
    if (plan.homeless.empty()) return {in_all_layers(plan.placement, problem.shape), {}};
  }
  return plan_by_layer(version, problem);
}

PlacementPlan repair_placement(uint64_t version, const PlacementProblem& problem,
                               const Placement& current) {
  if (const auto whole = joins_layers(problem) ? joined(current, problem.shape) : std::nullopt) {
    const PlacementPlan plan = repair_by_layer(version, joined(problem), *whole);
    if (plan.homeless.empty()) return {in_all_layers(plan.placement, problem.shape), {}};
  }
  return repair_by_layer(version, problem, current);
}

double imbalance(const Placement& placement, const PlacementProblem& problem) {
  return mean_of_longest(Packing(problem, placement));
}

size_t num_moves(const Placement& from, const Placement& to) {
  size_t moves = 0;
  for (LayerIdx layer(0); layer.value < to.num_layers(); ++layer.value) {
    for (ExpertId expert(0); expert.value < to.num_experts(); ++expert.value) {
      const auto before = from.workers(layer, expert);
      for (const WorkerId worker : to.workers(layer, expert)) {
        if (std::find(before.begin(), before.end(), worker) == before.end()) ++moves;
      }
    }
  }
  return moves;
}

std::optional<Placement> better_placement(uint64_t version, const PlacementProblem& problem,
                                          const Placement& current, double min_gain) {
  const auto whole = joins_layers(problem) ? joined(current, problem.shape) : std::nullopt;
  if (!whole) return better_by_layer(version, problem, current, min_gain);
  const auto better = better_by_layer(version, joined(problem), *whole, min_gain);
  if (!better) return std::nullopt;
  return in_all_layers(*better, problem.shape);
}

}  // namespace pregate::coordinator
