// A placement in the making, for plan.cc: who holds what, and how busy that makes each worker.
#pragma once

#include <optional>

#include "coordinator/placement/plan.h"

namespace pregate::coordinator {

/// Workers are positions in PlacementProblem::workers, layers positions in PlacementShape::layers,
/// and an item is an expert of a layer: layer * num_experts + expert.
///
/// Each layer's rows add up to 1, and so do the speeds: a time, load over speed, is 1 where a
/// worker has what it is due. An expert without rows counts for a little, so that idle ones are
/// spread too.
class Packing {
 public:
  /// A replica that moves from one worker to another, perhaps in exchange for one that comes back.
  struct Step {
    size_t from = 0, to = 0, item = 0;
    std::optional<size_t> in_exchange;
  };

  /// The problem outlives the packing.
  explicit Packing(const PlacementProblem& problem);
  /// What `current` has on the problem's workers, though it be over their memory.
  Packing(const PlacementProblem& problem, const Placement& current);

  size_t num_layers() const { return problem_.shape.layers.size(); }
  size_t num_experts() const { return problem_.shape.num_experts; }
  size_t num_workers() const { return paces_.size(); }
  size_t num_items() const { return num_layers() * num_experts(); }
  size_t layer_of(size_t item) const { return item / num_experts(); }

  /// Of the layer's rows.
  double weight(size_t item) const { return weights_[item]; }
  /// Of the layer's rows that come to each replica.
  double share(size_t item) const { return shares_[item]; }
  const std::vector<size_t>& holders(size_t item) const { return holders_[item]; }
  bool holds(size_t worker, size_t item) const;
  /// Of a layer, in no particular order.
  const std::vector<size_t>& items_at(size_t layer, size_t worker) const;
  double time(size_t layer, size_t worker) const;
  double total_time(size_t worker) const { return totals_[worker] * paces_[worker]; }
  /// Of the layer's busiest worker.
  double longest_time(size_t layer) const;
  double longest_total_time() const;
  /// Experts that still fit into its memory.
  size_t room(size_t worker) const;
  bool is_over_full(size_t worker) const;

  /// Bounds what workers get of each layer from now on.
  void set_layer_bounds(std::vector<size_t> bounds) { layer_bounds_ = std::move(bounds); }
  /// So many replicas of an item will be added, each with its share of the rows.
  void expect(size_t item, size_t replicas) { rescale(item, replicas); }
  /// Rows go to the replicas that there are, however many were expected.
  void settle(size_t item);
  void add(size_t item, size_t worker);
  void drop(size_t item, size_t worker);
  void take(const Step& step);
  /// Elsewhere, with as many replicas.
  void set_holders(size_t item, std::vector<size_t> workers);

  /// A point to return to, as long as all items are settled.
  size_t mark() const { return changes_.size(); }
  void roll_back(size_t mark);
  /// Replicas that came to a worker since then.
  size_t num_moves_since(size_t mark) const;

  bool has_room(size_t layer, size_t worker) const;
  /// Where another replica does best: least time, then least in common with the replicas there are,
  /// so that many workers take over from one that dies, then least to do over all layers.
  std::optional<size_t> best_worker(size_t item) const;
  /// What relieves the layer's busiest worker most, without making another one as busy.
  std::optional<Step> relieve(size_t layer) const;
  /// What relieves the worker that is busiest over all layers, and makes no layer's worse.
  std::optional<Step> relieve_overall() const;

  Placement to_placement(uint64_t version) const;

 private:
  struct Cost {
    double time = 0, common = 0, total = 0;
    bool operator<(const Cost& other) const;
  };
  /// An item that came to a worker, left one, or went from one to the other.
  struct Change {
    size_t item = 0;
    std::optional<size_t> from, to;
  };
  void carry(size_t item, size_t worker, double rows);
  void link(size_t item, size_t worker);
  void unlink(size_t item, size_t worker);
  void rescale(size_t item, size_t parts);
  void move(size_t item, size_t from, size_t to);
  double time_with(size_t layer, size_t worker, double rows) const;
  Cost cost_of(size_t item, size_t worker) const;
  std::optional<Step> best_move(size_t layer, size_t busiest) const;
  std::optional<Step> best_exchange(size_t layer, size_t busiest) const;
  std::optional<Step> step_between(size_t from, size_t to) const;

  const PlacementProblem& problem_;
  std::vector<double> paces_;                 // [worker] one over its share of the speed
  std::vector<double> weights_;               // [item]
  std::vector<double> shares_;                // [item] of each replica
  std::vector<size_t> parts_;                 // [item] into which its rows are split
  std::vector<std::vector<size_t>> holders_;  // [item]
  std::vector<std::vector<size_t>> items_;    // [layer * workers + worker]
  std::vector<double> loads_;                 // [layer * workers + worker]
  std::vector<double> totals_;                // [worker] mean over layers
  std::vector<size_t> counts_;                // [worker]
  std::vector<uint32_t> common_;              // [worker * workers + worker] items both hold
  std::vector<size_t> layer_bounds_;          // [worker], empty: none
  std::vector<Change> changes_;
};

}  // namespace pregate::coordinator
