// How busy those are who would compute an expert.
#pragma once

#include "coordinator/placement/plan.h"

namespace pregate::coordinator {

/// [num_experts]: over all layers, the rows of the least busy worker that holds the expert there.
/// Rows of an expert are split evenly over its replicas; an expert that nobody holds adds nothing.
/// `loads` as LoadMeter reads them; empty: nobody is busy.
std::vector<double> busyness(const Placement& table, const PlacementShape& shape,
                             const ExpertLoads& loads);

}  // namespace pregate::coordinator
