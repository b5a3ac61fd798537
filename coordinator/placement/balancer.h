// What every worker should hold as workers come and go and loads change: a pure function of what is
// seen. No clock, network or lock; the cluster calls it at each tick and carries out what it
// answers.
//
//            a new target, something of it to load
//   idle --------------------------------------------> moving: workers load in the background
//     ^                                                   |  another target: superseded
//     +---------------------------------------------------+
//        all of it is held: finished; no progress: stalled, and what is held is kept
//
// Workers never hold more than fits, and what moves is held twice for a while. Where all who are to
// load something are full, as in an exchange between two of them, nothing can move: it stalls, and
// every expert stays where it is.
//
// The base is what everybody is to hold when all who are expected are here. The target is the base
// and, for experts of which no holder answers, somebody who does; it goes back to the base when
// they answer again, so that a pause of a worker moves nothing for good.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <variant>

#include "base/clock.h"
#include "coordinator/placement/plan.h"

namespace pregate::coordinator {

struct BalancerOptions {
  size_t replicas = 1;
  double extra_replicas = 0;  ///< See PlacementProblem.
  double min_gain = 0.05;     ///< See better_placement().
  /// How often loads are looked at.
  Duration interval = std::chrono::seconds(10);
  /// Since the last worker joined, before any gets something for it: so many that join together
  /// cause one plan.
  Duration settle = std::chrono::seconds(2);
  /// The same for the first plan. 0 where it is known how many come, and they are here.
  Duration first_settle = std::chrono::seconds(2);
  /// A dead worker may come back: replicas of what others hold as well are not made before.
  Duration restore_delay = std::chrono::seconds(10);
  /// Without a replica loaded in so long, a rebalance is given up.
  Duration stall_timeout = std::chrono::seconds(60);
  /// The same where all who have something to load are full: they wait for each other to drop.
  Duration room_timeout = std::chrono::seconds(2);
  Duration load_half_life = std::chrono::seconds(60);
  /// Rows per expert, as the load meter has them, below which loads say nothing yet.
  double min_rows = 30;
};

enum class Presence {
  kHere,     ///< It answers, and what it holds is known.
  kSilent,   ///< Suspect.
  kLeaving,  ///< Its experts are to go elsewhere.
  kGone,     ///< Dead, but not forgotten.
};

struct BalancerWorker {
  WorkerRoom room;
  Presence presence = Presence::kHere;
  /// It holds as much as its memory takes, and loads nothing before something is dropped.
  bool is_full = false;
};

/// What the cluster sees. Functions are called during balance() only.
struct BalancerInput {
  const PlacementShape& shape;
  /// In the order in which equals are preferred. Who is not listed is not expected back.
  std::vector<BalancerWorker> workers;
  std::function<bool(WorkerId, LayerIdx, ExpertId)> holds;
  std::function<ExpertLoads()> loads;
};

/// The later one is named where several apply.
enum class BalanceReason { kLoad, kJoined, kSilent, kGone, kLeaving, kOperator, kStalled, kFirst };
std::string_view to_string(BalanceReason reason);

enum class RebalanceOutcome { kFinished, kStalled, kSuperseded };
std::string_view to_string(RebalanceOutcome outcome);

struct BalancerState {
  struct Known {
    Presence presence = Presence::kHere;
    TimePoint since;
    bool given_up = false;  ///< Gone for longer than restore_delay.
  };

  bool frozen = false;
  bool moving = false;
  /// Null before the first plan. Versions grow by one.
  std::shared_ptr<const Placement> target;
  std::shared_ptr<const Placement> base;
  std::optional<Placement> ordered;  ///< By an operator, for the next balance().
  std::map<WorkerId, Known> workers;
  double imbalance = 1;     ///< When loads were last looked at.
  size_t num_homeless = 0;  ///< Experts for which there is no room.

  // Of the latest rebalance.
  BalanceReason reason = BalanceReason::kLoad;
  size_t num_to_load = 0;
  size_t num_left = 0;
  TimePoint began, progressed, watched;
  bool is_at_a_loss = false;  ///< It follows a stall, after which nothing better was found.

  bool has_joiners = false;  ///< That got nothing yet.
  TimePoint joined;          ///< The last of them.
  TimePoint next_look;
};

// What is to be done, in this order.
namespace effect {
/// state.target is another one: what workers are to hold, and the table, follow from it.
struct Retarget {
  BalanceReason reason;
  size_t num_to_load = 0;  ///< Replicas.
};
struct RebalanceEnded {
  RebalanceOutcome outcome;
  BalanceReason reason;
  Duration took;
  size_t num_moved = 0;  ///< Replicas that were loaded.
  size_t num_left = 0;
  bool no_room = false;  ///< Stalled because full workers waited for each other.
};
/// So many experts have no home now, as memory is short; 0: all have one again.
struct Homeless {
  size_t num_experts = 0;
};
}  // namespace effect

using BalancerEffect = std::variant<effect::Retarget, effect::RebalanceEnded, effect::Homeless>;

/// To be called often, and at once when a worker's presence changed: it is cheap if nothing did.
std::vector<BalancerEffect> balance(BalancerState& state, const BalancerOptions& options,
                                    const BalancerInput& input, TimePoint now);

/// Frozen, nothing moves but what would be lost with a worker that is silent, gone or leaves.
void freeze(BalancerState& state, bool frozen);
/// The next balance() aims at this, of which workers that are not there are left out; later ones
/// at what is better, unless frozen.
void aim_at(BalancerState& state, Placement placement);

}  // namespace pregate::coordinator
