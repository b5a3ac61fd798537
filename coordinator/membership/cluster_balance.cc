// The cluster's side of balancing: what the balancer is shown, and what becomes of its answers.
#include <algorithm>

#include "base/log.h"
#include "coordinator/membership/cluster.h"

namespace pregate::coordinator {
namespace {

/// Of a worker's memory, for what it holds while experts move. One in so many.
constexpr size_t kReserve = 20;

Presence presence_of(const Member& member) {
  const bool speaks = member.is_alive() && member.state != WorkerState::kSuspect;
  if ((speaks ? member.state : member.before) == WorkerState::kDraining) return Presence::kLeaving;
  if (speaks) return Presence::kHere;
  return member.is_alive() ? Presence::kSilent : Presence::kGone;
}

}  // namespace

BalancerInput Cluster::balancer_input_locked() {
  BalancerInput input{.shape = options_.shape};
  for (const auto& [id, member] : members_) {
    const size_t room = room_of(member.capacity);
    // One that has just come back is missed until it has said what it holds.
    const bool known = remotes_.at(id).has_reported || !member.is_alive();
    input.workers.push_back({{id, member.capacity.rows_per_second, room - room / kReserve},
                             known ? presence_of(member) : Presence::kGone,
                             remotes_.at(id).held.size() >= room});
  }
  input.holds = [this](WorkerId worker, LayerIdx layer, ExpertId expert) {
    return remotes_.at(worker).held.contains({layer, expert});
  };
  input.loads = [this] { return loads_.read(clock_.now()); };
  return input;
}

void Cluster::balance_locked() {
  const BalancerInput input = balancer_input_locked();
  const auto num_here = std::ranges::count_if(
      input.workers, [](const auto& worker) { return worker.presence == Presence::kHere; });
  const bool first = !balancer_.target && !balancer_.ordered;
  if (first && static_cast<size_t>(num_here) < std::max<size_t>(options_.min_workers, 1)) return;
  if (first && options_.placement) aim_at(balancer_, *options_.placement);
  for (const BalancerEffect& effect : balance(balancer_, options_.balancer, input, clock_.now())) {
    note_balance_locked(effect);
  }
  probe_.imbalance(balancer_.imbalance);
  probe_.rebalance_left(balancer_.moving ? balancer_.num_left : 0);
}

void Cluster::note_balance_locked(const BalancerEffect& effect) {
  if (const auto* retarget = std::get_if<effect::Retarget>(&effect)) {
    dirty_ = true;
    spdlog::info("placement {} ({}): {} replicas to load", balancer_.target->version(),
                 to_string(retarget->reason), retarget->num_to_load);
  } else if (const auto* ended = std::get_if<effect::RebalanceEnded>(&effect)) {
    probe_.rebalanced(to_string(ended->outcome), ended->took, ended->num_moved);
    const bool stalled = ended->outcome == RebalanceOutcome::kStalled;
    spdlog::log(stalled ? spdlog::level::err : spdlog::level::info,
                "rebalance ({}) {} after {:.1f} s: {} replicas loaded, {} not{}",
                to_string(ended->reason), to_string(ended->outcome), to_seconds(ended->took),
                ended->num_moved, ended->num_left,
                ended->no_room ? ": full workers wait for each other" : "");
  } else if (const auto* homeless = std::get_if<effect::Homeless>(&effect)) {
    if (homeless->num_experts > 0) {
      spdlog::error("{} experts fit into no worker's memory", homeless->num_experts);
    }
  }
}

bool Cluster::has_target_locked() const { return balancer_.target != nullptr; }

const Placement& Cluster::target_locked() const {
  return has_target_locked() ? *balancer_.target : no_target_;
}

std::shared_ptr<const Placement> Cluster::target() const {
  std::lock_guard lock(mutex_);
  return balancer_.target ? balancer_.target : std::make_shared<const Placement>(no_target_);
}

Status Cluster::check_target_locked(const Placement& placement) const {
  if (const ExpertSet missing = missing_experts(options_.shape, placement); !missing.empty()) {
    return fail(ErrorCode::kInvalidArgument, "expert {} of layer {} is placed nowhere",
                missing.begin()->second, missing.begin()->first);
  }
  std::map<WorkerId, size_t> counts;
  for (const LayerIdx layer : options_.shape.layers) {
    for (uint32_t expert = 0; expert < options_.shape.num_experts; ++expert) {
      for (const WorkerId worker : placement.workers(layer, ExpertId(expert))) {
        ++counts[worker];
        const auto member = members_.find(worker);
        if (member != members_.end() && member->second.is_alive()) continue;
        return fail(ErrorCode::kInvalidArgument, "expert {} of layer {}: worker {} is not here",
                    expert, layer,
                    member == members_.end() ? fmt::format("{}", worker) : member->second.title());
      }
    }
  }
  for (const auto& [worker, count] : counts) {
    const Member& member = members_.at(worker);
    const size_t room = room_of(member.capacity);
    if (count <= room) continue;
    return fail(ErrorCode::kInvalidArgument, "{} has room for {} experts, and would get {}",
                member.title(), room, count);
  }
  return {};
}

Status Cluster::set_target(const Placement& placement) {
  News news;
  {
    std::lock_guard lock(mutex_);
    PREGATE_TRY(check_target_locked(placement));
    aim_at(balancer_, placement);
    balance_locked();
    refresh_locked(news);
  }
  tell(news);
  return {};
}

BalancerState Cluster::balancer() const {
  std::lock_guard lock(mutex_);
  return balancer_;
}

void Cluster::freeze_balancer(bool frozen) {
  std::lock_guard lock(mutex_);
  freeze(balancer_, frozen);
  spdlog::info("balancer {}", frozen ? "frozen" : "goes on");
}

}  // namespace pregate::coordinator
