// Experts that serve the same tokens, on the same worker: a row is sent once to each worker that
// has any of its experts.
#pragma once

#include <span>
#include <vector>

#include "coordinator/placement/plan.h"
#include "router/trace.h"

namespace pregate::coordinator {

/// What traces of one model say of its experts.
struct TracedUse {
  PlacementShape shape;
  ExpertLoads loads;  ///< Tokens.
  /// Tokens that go to both of two experts: [position of the layer][a * num_experts + b].
  std::vector<std::vector<double>> together;
};

/// At least one trace, all with the same layers and experts.
TracedUse traced_use(std::span<const router::RoutingTrace> traces);

/// `placement`, which has one replica of each expert, with experts exchanged between workers
/// within each layer for as long as that brings more of those together that serve the same tokens
/// (Kernighan and Lin 1970, with the best exchange at a time). Workers hold as many experts as
/// before, and none gets more than its share by speed and `tolerance` (0.1 = a tenth) of it, unless
/// it had more. Workers that are not in the problem keep what they have.
Placement with_affinity(const PlacementProblem& problem, const Placement& placement,
                        const TracedUse& use, double tolerance);

/// Of a token and layer, the workers that hold any of its experts: the mean for each layer. Each
/// expert's preferred replica counts.
std::vector<double> workers_per_token(const Placement& placement,
                                      std::span<const router::RoutingTrace> traces);

}  // namespace pregate::coordinator
