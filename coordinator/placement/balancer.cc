#include "coordinator/placement/balancer.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace pregate::coordinator {
namespace {

constexpr auto kWatchInterval = std::chrono::milliseconds(200);
/// Added to each expert's measured rows, so that few rows say little.
constexpr double kPriorRows = 10;

using Replicas = std::vector<WorkerId>;
/// The replicas of one expert.
using RowRule = std::function<Replicas(LayerIdx, ExpertId)>;

Placement build(const PlacementShape& shape, const RowRule& rule) {
  Placement placement(0, shape);
  for (const LayerIdx layer : shape.layers) {
    for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
      for (const WorkerId worker : rule(layer, expert)) {
        placement.add_replica(layer, expert, worker);
      }
    }
  }
  return placement;
}

Replicas replicas_of(const Placement& placement, LayerIdx layer, ExpertId expert) {
  const auto workers = placement.workers(layer, expert);
  return {workers.begin(), workers.end()};
}

bool contains(const Replicas& replicas, WorkerId worker) {
  return std::find(replicas.begin(), replicas.end(), worker) != replicas.end();
}

std::map<WorkerId, size_t> replicas_per_worker(const PlacementShape& shape,
                                               const Placement& placement) {
  std::map<WorkerId, size_t> counts;
  for (const LayerIdx layer : shape.layers) {
    for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
      for (const WorkerId worker : placement.workers(layer, expert)) ++counts[worker];
    }
  }
  return counts;
}

/// One call of balance().
class Balancing {
 public:
  Balancing(BalancerState& state, const BalancerOptions& options, const BalancerInput& input,
            TimePoint now)
      : state_(state), options_(options), input_(input), now_(now) {}

  std::vector<BalancerEffect> run() {
    notice_workers();
    if (state_.ordered) obey();
    if (!state_.base) begin();
    if (!state_.base) return std::move(effects_);
    if (changed_) mend();
    if (is_time_to_look()) look();
    if (changed_) aim();
    if (state_.moving) watch();
    return std::move(effects_);
  }

 private:
  // Who is there.
  void notice_workers();
  void notice(const BalancerWorker& worker);
  void note(BalanceReason reason);
  bool is_here(WorkerId worker) const;
  bool is_expected(WorkerId worker) const;
  bool all_are_here() const;

  // The base.
  PlacementProblem problem(const std::function<bool(WorkerId)>& takes_part) const;
  PlacementProblem problem_of_expected() const;
  void obey();
  void begin();
  void mend();
  bool is_time_to_look() const;
  void look();
  ExpertLoads loads();
  void set_base(Placement base);

  // The target.
  Placement with_cover() const;
  void aim();
  struct Unheld {
    size_t num_experts = 0;
    bool is_stuck = true;  // All who are to load them are full.
  };
  Unheld unheld() const;
  void start_moving();
  void watch();
  void end(RebalanceOutcome outcome, bool no_room = false);
  void give_up();
  Placement what_is_held() const;

  BalancerState& state_;
  const BalancerOptions& options_;
  const BalancerInput& input_;
  const TimePoint now_;
  bool changed_ = false;  // something on which the target depends
  BalanceReason reason_ = BalanceReason::kLoad;
  std::vector<BalancerEffect> effects_;
};

void Balancing::note(BalanceReason reason) {
  if (!changed_ || reason > reason_) reason_ = reason;
  changed_ = true;
}

void Balancing::notice_workers() {
  for (const BalancerWorker& worker : input_.workers) notice(worker);
  if (state_.workers.size() == input_.workers.size()) return;
  std::erase_if(state_.workers, [this](const auto& known) {
    return std::none_of(
        input_.workers.begin(), input_.workers.end(),
        [&](const BalancerWorker& worker) { return worker.room.id == known.first; });
  });
  note(BalanceReason::kGone);
}

void Balancing::notice(const BalancerWorker& worker) {
  const auto [found, is_new] = state_.workers.try_emplace(worker.room.id);
  BalancerState::Known& known = found->second;
  const bool was_gone = is_new || known.presence == Presence::kGone;
  if (is_new || known.presence != worker.presence) {
    known = {worker.presence, now_, false};
    switch (worker.presence) {
      case Presence::kHere:
        note(BalanceReason::kJoined);
        break;
      case Presence::kSilent:
        note(BalanceReason::kSilent);
        break;
      case Presence::kLeaving:
        note(BalanceReason::kLeaving);
        break;
      case Presence::kGone:
        note(BalanceReason::kGone);
        break;
    }
  }
  if (was_gone && worker.presence == Presence::kHere) {
    state_.has_joiners = true;
    state_.joined = now_;
  }
  const bool is_late = worker.presence == Presence::kGone && !known.given_up &&
                       now_ - known.since >= options_.restore_delay;
  if (is_late) {
    known.given_up = true;
    note(BalanceReason::kGone);
  }
}

bool Balancing::is_here(WorkerId worker) const {
  const auto known = state_.workers.find(worker);
  return known != state_.workers.end() && known->second.presence == Presence::kHere;
}

bool Balancing::is_expected(WorkerId worker) const {
  const auto known = state_.workers.find(worker);
  return known != state_.workers.end() && known->second.presence != Presence::kLeaving &&
         !known->second.given_up;
}

bool Balancing::all_are_here() const {
  return std::all_of(state_.workers.begin(), state_.workers.end(), [this](const auto& known) {
    return is_here(known.first) || !is_expected(known.first);
  });
}

PlacementProblem Balancing::problem(const std::function<bool(WorkerId)>& takes_part) const {
  PlacementProblem problem{.shape = input_.shape, .replicas = options_.replicas};
  for (const BalancerWorker& worker : input_.workers) {
    if (takes_part(worker.room.id)) problem.workers.push_back(worker.room);
  }
  return problem;
}

/// Those that do not answer keep what they have, and get nothing.
PlacementProblem Balancing::problem_of_expected() const {
  PlacementProblem result = problem([this](WorkerId worker) { return is_expected(worker); });
  const auto counts = replicas_per_worker(input_.shape, *state_.base);
  for (WorkerRoom& room : result.workers) {
    if (is_here(room.id)) continue;
    const auto count = counts.find(room.id);
    room.max_experts = count == counts.end() ? 0 : count->second;
  }
  return result;
}

void Balancing::set_base(Placement base) {
  state_.base = std::make_shared<const Placement>(std::move(base));
}

void Balancing::obey() {
  set_base(*std::exchange(state_.ordered, std::nullopt));
  state_.next_look = now_ + options_.interval;
  note(BalanceReason::kOperator);
}

/// The first base. Workers that served an earlier coordinator keep what they hold.
void Balancing::begin() {
  const PlacementProblem all = problem([this](WorkerId worker) { return is_here(worker); });
  if (all.workers.empty() || now_ - state_.joined < options_.first_settle) return;
  bool is_any_held = false;
  const Placement held = build(input_.shape, [&](LayerIdx layer, ExpertId expert) {
    Replicas replicas;
    for (const WorkerRoom& worker : all.workers) {
      if (input_.holds(worker.id, layer, expert)) replicas.push_back(worker.id);
    }
    is_any_held |= !replicas.empty();
    if (replicas.size() <= options_.replicas || options_.extra_replicas > 0) return replicas;
    const auto first = replicas.begin() + static_cast<ptrdiff_t>(expert.value % replicas.size());
    std::rotate(replicas.begin(), first, replicas.end());
    replicas.resize(options_.replicas);
    return replicas;
  });
  set_base((is_any_held ? repair_placement(0, all, held) : plan_placement(0, all)).placement);
  state_.has_joiners = is_any_held;
  state_.next_look = now_ + options_.interval;
  note(BalanceReason::kFirst);
}

/// Takes from the base who is not expected any more, and gives what they had to others: to those
/// that stood in for them, first of all.
void Balancing::mend() {
  bool has_lost = false;
  const Placement left = build(input_.shape, [&](LayerIdx layer, ExpertId expert) {
    Replicas replicas = replicas_of(*state_.base, layer, expert);
    const size_t lost = std::erase_if(replicas, [&](WorkerId id) { return !is_expected(id); });
    has_lost |= lost > 0;
    if (lost == 0 || !state_.target) return replicas;
    for (const WorkerId worker : state_.target->workers(layer, expert)) {
      if (replicas.size() >= options_.replicas) break;
      if (is_here(worker) && !contains(replicas, worker)) replicas.push_back(worker);
    }
    return replicas;
  });
  PlacementProblem expected = problem_of_expected();
  if (!has_lost) expected.replicas = 1;
  PlacementPlan plan = repair_placement(0, expected, left);
  set_base(std::move(plan.placement));
  if (plan.homeless.size() != std::exchange(state_.num_homeless, plan.homeless.size())) {
    effects_.push_back(effect::Homeless{plan.homeless.size()});
  }
}

bool Balancing::is_time_to_look() const {
  if (!all_are_here()) return false;
  if (state_.has_joiners && !state_.frozen) return now_ - state_.joined >= options_.settle;
  return !state_.moving && now_ >= state_.next_look;
}

/// Empty while there were too few rows to say anything.
ExpertLoads Balancing::loads() {
  ExpertLoads loads = input_.loads();
  double rows = 0;
  for (auto& layer : loads) {
    rows += std::accumulate(layer.begin(), layer.end(), 0.0);
    for (double& load : layer) load += kPriorRows;
  }
  const size_t num_items = input_.shape.layers.size() * input_.shape.num_experts;
  if (rows < options_.min_rows * static_cast<double>(num_items)) loads.clear();
  return loads;
}

void Balancing::look() {
  state_.next_look = now_ + options_.interval;
  PlacementProblem expected = problem_of_expected();
  expected.extra_replicas = options_.extra_replicas;
  expected.loads = loads();
  state_.imbalance = imbalance(*state_.base, expected);
  if (state_.frozen) return;
  Placement better = repair_placement(0, expected, *state_.base).placement;
  const bool had_joiners = std::exchange(state_.has_joiners, false);
  const bool is_uneven = !expected.loads.empty() && state_.imbalance > 1 + options_.min_gain;
  if (had_joiners || is_uneven) {
    auto found = better_placement(0, expected, better, options_.min_gain);
    if (found) better = std::move(*found);
  }
  if (better.same_replicas(*state_.base)) return;
  state_.imbalance = imbalance(better, expected);
  set_base(std::move(better));
  note(had_joiners ? BalanceReason::kJoined : BalanceReason::kLoad);
}

/// The base, and for experts of which no holder answers one that does: one that stood in for it or
/// holds it already, if there is one.
Placement Balancing::with_cover() const {
  const auto here = [this](WorkerId worker) { return is_here(worker); };
  const Placement start = build(input_.shape, [&](LayerIdx layer, ExpertId expert) {
    Replicas replicas = replicas_of(*state_.base, layer, expert);
    std::erase_if(replicas, std::not_fn(here));
    if (!replicas.empty()) return replicas;
    if (state_.target) replicas = replicas_of(*state_.target, layer, expert);
    std::erase_if(replicas, std::not_fn(here));
    if (!replicas.empty()) return replicas;
    const auto holder = std::find_if(
        input_.workers.begin(), input_.workers.end(), [&](const BalancerWorker& worker) {
          return is_here(worker.room.id) && input_.holds(worker.room.id, layer, expert);
        });
    if (holder != input_.workers.end()) replicas.push_back(holder->room.id);
    return replicas;
  });
  PlacementProblem those_here = problem(here);
  those_here.replicas = 1;
  const Placement covered = repair_placement(0, those_here, start).placement;
  return build(input_.shape, [&](LayerIdx layer, ExpertId expert) {
    Replicas replicas = replicas_of(covered, layer, expert);
    for (const WorkerId worker : state_.base->workers(layer, expert)) {
      if (!is_here(worker) && is_expected(worker)) replicas.push_back(worker);
    }
    std::sort(replicas.begin(), replicas.end());
    return replicas;
  });
}

void Balancing::aim() {
  Placement next = with_cover();
  const bool is_new = !state_.target || !next.same_replicas(*state_.target);
  if (is_new) {
    if (state_.moving) end(RebalanceOutcome::kSuperseded);
    state_.is_at_a_loss = false;
    next.set_version(state_.target ? state_.target->version() + 1 : 1);
    state_.target = std::make_shared<const Placement>(std::move(next));
  }
  if (!state_.moving) start_moving();
  if (is_new) effects_.push_back(effect::Retarget{reason_, state_.num_to_load});
}

Balancing::Unheld Balancing::unheld() const {
  std::set<WorkerId> full;
  for (const BalancerWorker& worker : input_.workers) {
    if (worker.is_full) full.insert(worker.room.id);
  }
  Unheld unheld;
  for (const LayerIdx layer : input_.shape.layers) {
    for (ExpertId expert(0); expert.value < input_.shape.num_experts; ++expert.value) {
      for (const WorkerId worker : state_.target->workers(layer, expert)) {
        if (!is_here(worker) || input_.holds(worker, layer, expert)) continue;
        ++unheld.num_experts;
        unheld.is_stuck &= full.contains(worker);
      }
    }
  }
  return unheld;
}

void Balancing::start_moving() {
  state_.reason = reason_;
  state_.num_to_load = state_.num_left = unheld().num_experts;
  state_.moving = state_.num_left > 0;
  state_.began = state_.progressed = state_.watched = now_;
}

void Balancing::watch() {
  // Counting takes a while for large models.
  if (now_ - state_.watched < kWatchInterval) return;
  state_.watched = now_;
  const auto [left, is_stuck] = unheld();
  const bool is_hopeless = is_stuck && !state_.is_at_a_loss;
  if (left < state_.num_left) state_.progressed = now_;
  // A worker that returned may have lost something.
  state_.num_to_load += left > state_.num_left ? left - state_.num_left : 0;
  state_.num_left = left;
  if (left == 0) {
    end(RebalanceOutcome::kFinished);
  } else if (now_ - state_.progressed >=
             (is_hopeless ? options_.room_timeout : options_.stall_timeout)) {
    end(RebalanceOutcome::kStalled, is_stuck);
    give_up();
  }
}

void Balancing::end(RebalanceOutcome outcome, bool no_room) {
  state_.moving = false;
  effects_.push_back(effect::RebalanceEnded{outcome, state_.reason, now_ - state_.began,
                                            state_.num_to_load - state_.num_left, state_.num_left,
                                            no_room});
}

/// The replicas of the base that are held, or whose worker does not answer; of experts that have
/// none, those that are held elsewhere.
Placement Balancing::what_is_held() const {
  return build(input_.shape, [this](LayerIdx layer, ExpertId expert) {
    Replicas replicas = replicas_of(*state_.base, layer, expert);
    std::erase_if(replicas, [&](WorkerId worker) {
      return is_here(worker) && !input_.holds(worker, layer, expert);
    });
    if (!replicas.empty()) return replicas;
    for (const BalancerWorker& worker : input_.workers) {
      const bool serves = is_here(worker.room.id) && input_.holds(worker.room.id, layer, expert);
      if (serves && replicas.size() < options_.replicas) replicas.push_back(worker.room.id);
    }
    return replicas;
  });
}

/// Keeps what is held. What is held by nobody goes to workers that loaded all they were given, if
/// there are any; else it stays where it should have been.
void Balancing::give_up() {
  const Placement held = what_is_held();
  PlacementProblem rest = problem_of_expected();
  rest.replicas = 1;
  const auto before = replicas_per_worker(input_.shape, *state_.target);
  const auto after = replicas_per_worker(input_.shape, held);
  const auto count = [](const auto& counts, WorkerId worker) {
    const auto found = counts.find(worker);
    return found == counts.end() ? size_t{0} : found->second;
  };
  for (WorkerRoom& room : rest.workers) {
    const size_t kept = count(after, room.id);
    if (kept < count(before, room.id)) room.max_experts = kept;
  }
  const Placement repaired = repair_placement(0, rest, held).placement;
  set_base(build(input_.shape, [&](LayerIdx layer, ExpertId expert) {
    Replicas replicas = replicas_of(repaired, layer, expert);
    return replicas.empty() ? replicas_of(*state_.base, layer, expert) : replicas;
  }));
  // What did not work is not tried again at once.
  state_.next_look = now_ + std::max(options_.interval, options_.stall_timeout);
  reason_ = BalanceReason::kStalled;
  state_.is_at_a_loss = true;
  aim();
}

}  // namespace

std::string_view to_string(BalanceReason reason) {
  switch (reason) {
    case BalanceReason::kLoad:
      return "the load changed";
    case BalanceReason::kJoined:
      return "a worker joined";
    case BalanceReason::kSilent:
      return "a worker is silent";
    case BalanceReason::kGone:
      return "a worker is gone";
    case BalanceReason::kLeaving:
      return "a worker leaves";
    case BalanceReason::kOperator:
      return "an operator wants it";
    case BalanceReason::kStalled:
      return "workers did not load what they were given";
    case BalanceReason::kFirst:
      return "the first placement";
  }
  return "unknown";
}

std::string_view to_string(RebalanceOutcome outcome) {
  switch (outcome) {
    case RebalanceOutcome::kFinished:
      return "finished";
    case RebalanceOutcome::kStalled:
      return "stalled";
    case RebalanceOutcome::kSuperseded:
      return "superseded";
  }
  return "unknown";
}

std::vector<BalancerEffect> balance(BalancerState& state, const BalancerOptions& options,
                                    const BalancerInput& input, TimePoint now) {
  return Balancing(state, options, input, now).run();
}

void freeze(BalancerState& state, bool frozen) { state.frozen = frozen; }

void aim_at(BalancerState& state, Placement placement) { state.ordered = std::move(placement); }

}  // namespace pregate::coordinator
