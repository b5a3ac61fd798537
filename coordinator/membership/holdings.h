// Who holds what, and what follows from it: the table to dispatch by, and what each worker is to
// hold next. Pure.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>

#include "coordinator/membership/membership.h"
#include "coordinator/placement/placement.h"

namespace pregate::coordinator {

using ExpertKey = std::pair<LayerIdx, ExpertId>;
using ExpertSet = std::set<ExpertKey>;

ExpertSet to_set(std::span<const protocol::ExpertRange> ranges);
/// Ascending, neighbours of a layer joined.
std::vector<protocol::ExpertRange> to_ranges(const ExpertSet& experts);

/// What each worker reported last. Workers that hold nothing may be absent.
using Holdings = std::map<WorkerId, ExpertSet>;

/// The table to dispatch by: of each expert the workers that hold it and are alive (loading, ready
/// or draining) and in `target`; while not all of these hold it yet, also others that are alive;
/// where nobody is left, suspects. So a replica that the target does not want falls out of use, and
/// may be dropped, as soon as those that it wants are there. Of the target's the lower id comes
/// first, but rotated by the expert's number, so that replicas share the experts.
Placement routing_table(uint64_t version, const PlacementShape& shape, const Placement& target,
                        const Holdings& holdings, const Members& members);

/// Experts of the shape that `table` has nowhere.
ExpertSet missing_experts(const PlacementShape& shape, const Placement& table);

/// [n]: how many experts of the shape have n replicas in `table`.
std::vector<size_t> experts_by_replicas(const PlacementShape& shape, const Placement& table);

/// Experts that `table` has at suspects only.
ExpertSet unanswered_experts(const PlacementShape& shape, const Placement& table,
                             const Members& members);

/// What a worker is to hold: what `target` gives it, and what it holds and any of `tables` (those
/// in use) sends to it. Experts in `waited_for` come first, then those it holds, then the rest, so
/// that it loads first what requests wait for.
std::vector<protocol::ExpertRange> assignment_for(
    WorkerId worker, const Placement& target, const ExpertSet& held,
    std::span<const std::shared_ptr<const Placement>> tables, const ExpertSet& waited_for);

}  // namespace pregate::coordinator
