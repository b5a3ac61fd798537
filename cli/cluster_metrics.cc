#include "cli/cluster_metrics.h"

#include <mutex>
#include <optional>

#include "coordinator/placement/balancer.h"

namespace pregate::cli {
namespace {

using coordinator::JoinRefusal;
using coordinator::RebalanceOutcome;
using coordinator::ResendReason;
using coordinator::WorkerState;

monitoring::ClusterProbeOptions words() {
  using coordinator::to_string;
  monitoring::ClusterProbeOptions options;
  for (const auto state : {WorkerState::kJoining, WorkerState::kLoading, WorkerState::kReady,
                           WorkerState::kDraining, WorkerState::kSuspect, WorkerState::kDead}) {
    options.worker_states.emplace_back(to_string(state));
  }
  for (const auto refusal :
       {JoinRefusal::kWrongSecret, JoinRefusal::kReplayed, JoinRefusal::kOtherModel,
        JoinRefusal::kNameTaken, JoinRefusal::kTooMany, JoinRefusal::kNoAnswer,
        JoinRefusal::kBadMessage}) {
    options.refusal_reasons.emplace_back(to_string(refusal));
  }
  for (const auto outcome :
       {RebalanceOutcome::kFinished, RebalanceOutcome::kStalled, RebalanceOutcome::kSuperseded}) {
    options.rebalance_outcomes.emplace_back(to_string(outcome));
  }
  return options;
}

const char* name_of(ResendReason reason) {
  switch (reason) {
    case ResendReason::kLost:
      return "lost";
    case ResendReason::kQuiet:
      return "quiet";
    case ResendReason::kLate:
      return "late";
    case ResendReason::kRefused:
      return "refused";
  }
  return "other";
}

}  // namespace

ClusterMetrics::ClusterMetrics(monitoring::Registry& registry, monitoring::DispatchProbe& dispatch)
    : dispatch_(dispatch), cluster_(registry, words()) {}

std::string ClusterMetrics::name_of(WorkerId worker) const {
  const std::shared_lock lock(mutex_);
  const auto found = names_.find(worker);
  return found == names_.end() ? fmt::format("worker-{}", worker) : found->second;
}

void ClusterMetrics::worker_changed(const coordinator::Member& member) {
  {
    const std::unique_lock lock(mutex_);
    names_[member.id] = member.name;
  }
  std::optional<bool> up = member.is_alive() && member.state != WorkerState::kSuspect;
  // Nobody misses one that was drained.
  if (!member.is_alive() && member.before == WorkerState::kDraining) up.reset();
  cluster_.worker_changed(member.name, std::string(coordinator::to_string(member.state)), up);
}

void ClusterMetrics::worker_forgotten(WorkerId worker) {
  const std::string name = name_of(worker);
  cluster_.forget_worker(name);
  dispatch_.forget_worker(name);
  const std::unique_lock lock(mutex_);
  names_.erase(worker);
}

void ClusterMetrics::heartbeat_received(WorkerId worker, size_t queue_depth) {
  cluster_.heartbeat_received(name_of(worker), queue_depth);
}

void ClusterMetrics::worker_holds(WorkerId worker, size_t experts, size_t bytes) {
  cluster_.worker_holds(name_of(worker), experts, bytes);
}

void ClusterMetrics::join_refused(JoinRefusal refusal) {
  cluster_.join_refused(std::string(coordinator::to_string(refusal)));
}

void ClusterMetrics::table_changed(uint64_t version,
                                   const std::vector<size_t>& experts_by_replicas) {
  cluster_.table_changed(version, experts_by_replicas);
}

void ClusterMetrics::rebalanced(std::string_view outcome, Duration took, size_t moved_experts) {
  cluster_.rebalanced(std::string(outcome), took, moved_experts);
}

void ClusterMetrics::request_sent(WorkerId worker, size_t rows, size_t bytes) {
  dispatch_.dispatched(name_of(worker), rows, bytes);
}

void ClusterMetrics::reply_received(WorkerId worker, size_t bytes, Duration compute,
                                    Duration round_trip) {
  dispatch_.combined(name_of(worker), {.whole = round_trip, .compute = compute}, bytes);
}

void ClusterMetrics::batch_resent(ResendReason reason) { dispatch_.resent(cli::name_of(reason)); }

}  // namespace pregate::cli
