// Where experts should be: pure functions from what is known to a placement.
#pragma once

#include <optional>

#include "coordinator/placement/placement.h"

namespace pregate::coordinator {

/// A worker that may be given experts.
struct WorkerRoom {
  WorkerId id;
  double rows_per_second = 1;  ///< Relative to the others'. 0: unknown, as slow as the slowest.
  size_t max_experts = 0;      ///< That fit into its memory, over all layers.
};

/// Rows per expert: [position of the layer in PlacementShape::layers][expert]. Empty: all alike.
using ExpertLoads = std::vector<std::vector<double>>;

struct PlacementProblem {
  PlacementShape shape;
  /// In the order in which equals are preferred.
  std::vector<WorkerRoom> workers;
  ExpertLoads loads;
  size_t replicas = 1;  ///< Of each expert at least, on different workers, as far as there is room.
  /// Replicas that the busiest experts get on top, as a fraction of those that `replicas` demands.
  double extra_replicas = 0;
};

struct PlacementPlan {
  Placement placement;
  /// Experts for which there was no room anywhere.
  std::vector<std::pair<LayerIdx, ExpertId>> homeless;
};

/// Replicates the busy and packs, as EPLB does, with unequal workers: per layer, experts get
/// replicas (each expert `replicas`, then one more to the largest load per replica), and the
/// heaviest replica goes to the worker that is done first with it, has room and not this expert;
/// then moves and exchanges relieve the busiest. Replicas of what one worker has are spread over
/// many others. Where memory is short every expert gets one replica less, or no home, but for those
/// with the most rows. Speeds within a quarter of each other count as equal, so that the noise of a
/// measurement moves nothing, and idle experts count for a little, so that they are spread too.
/// Loads alike and speeds alike give the rows of even_placement().
///
/// Where a token has one route through all layers, so has each expert one home (and one set of
/// replicas) for all of them, so that a token's worker is the same throughout, and batches that are
/// planned by expert are planned by worker. That is given up where memory is short. It holds for
/// repairs and better placements of what is so already.
PlacementPlan plan_placement(uint64_t version, const PlacementProblem& problem);

/// `current` with what is missing: replicas on workers that are not in the problem are dropped, and
/// experts with fewer than `replicas` get more, least load over speed first. Nothing else moves,
/// but where memory is short an expert's last home takes the place of another's second replica.
PlacementPlan repair_placement(uint64_t version, const PlacementProblem& problem,
                               const Placement& current);

/// The busiest worker's share of the rows, over what its speed makes it due: 1 is perfect. Rows of
/// an expert are split evenly over its replicas. Over all layers: the mean of the layers'. Speeds
/// and idle experts count as in plan_placement().
double imbalance(const Placement& placement, const PlacementProblem& problem);

/// Replicas of `to` that `from` does not have: what would have to be loaded.
size_t num_moves(const Placement& from, const Placement& to);

/// `current`, repaired and then moved towards balance, if that is worth moving for: a layer changes
/// if its busiest worker's share falls by more than `min_gain` (0.05 = five percent of what it is
/// due) for each tenth of its experts that must be loaded. Then the same for the worker with the
/// largest share of all layers' rows, as far as no layer gets worse: so a worker that joins gets
/// something though no single layer needs it. Replicas that became busy get company, in place of
/// such as are so no more. As few moves as balance allows; none: nothing, though it needed repair.
std::optional<Placement> better_placement(uint64_t version, const PlacementProblem& problem,
                                          const Placement& current, double min_gain);

}  // namespace pregate::coordinator
