// All layers of an expert as one: what is placed is then as if the model had one layer.
#pragma once

#include <optional>

#include "coordinator/placement/plan.h"

namespace pregate::coordinator {

/// Each worker has room for so many experts with all their layers; loads are added up.
PlacementProblem joined(const PlacementProblem& problem);
/// Nothing if an expert has other workers in one layer than in another.
std::optional<Placement> joined(const Placement& placement, const PlacementShape& shape);
/// The same workers in each layer of `shape`.
Placement in_all_layers(const Placement& joined, const PlacementShape& shape);

}  // namespace pregate::coordinator
