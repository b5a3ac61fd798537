#include "monitoring/metrics/cluster_probe.h"

#include <utility>

namespace pregate::monitoring {

ClusterProbe::ClusterProbe(Registry& registry, const ClusterProbeOptions& options)
    : workers_in_state_(registry.gauges("pregate_workers", "Workers in each state.")),
      up_(registry.gauges("pregate_worker_up", "1 while the worker answers, else 0.")),
      experts_(registry.gauges("pregate_worker_experts", "Experts that a worker holds.")),
      expert_bytes_(
          registry.gauges("pregate_worker_expert_bytes", "Bytes of the experts a worker holds.")),
      queue_depth_(registry.gauges("pregate_worker_reported_queue_depth",
                                   "Requests that wait at a worker, as its heartbeat says.")),
      heartbeats_(registry.counters("pregate_worker_heartbeats_total",
                                    "Heartbeats received from a worker.")),
      changes_(registry.counters("pregate_worker_state_changes_total",
                                 "How often a worker came into a state.")),
      refusals_(registry.counters("pregate_join_refusals_total",
                                  "Connections that were not let into the cluster.")),
      rebalances_(registry.counters("pregate_rebalances_total", "Rebalances that ended.")),
      rebalance_seconds_(
          registry.histograms("pregate_rebalance_seconds", "From a new target to its end.")
              .Add({}, rebalance_buckets())),
      moved_(registry
                 .counters("pregate_rebalance_moved_experts_total",
                           "Replicas that workers loaded for a rebalance.")
                 .Add({})),
      left_(registry
                .gauges("pregate_rebalance_left_replicas",
                        "Replicas still to load for the rebalance under way.")
                .Add({})),
      imbalance_(registry
                     .gauges("pregate_imbalance",
                             "The busiest worker's share of the rows over what is its due.")
                     .Add({})),
      version_(registry.gauges("pregate_placement_version", "Version of the table dispatched by.")
                   .Add({})),
      missing_(
          registry.gauges("pregate_missing_experts", "Experts that no live worker holds.").Add({})),
      unanswered_(registry
                      .gauges("pregate_unanswered_experts",
                              "Experts that only workers hold which do not answer.")
                      .Add({})),
      with_replicas_(
          registry.gauges("pregate_experts_with_replicas", "Experts that so many workers hold.")),
      worker_states_(options.worker_states),
      by_replicas_{&with_replicas_.Add({{"replicas", "0"}})} {
  for (const auto& state : options.worker_states) workers_in_state_.Add({{"state", state}});
  for (const auto& reason : options.refusal_reasons) refusals_.Add({{"reason", reason}});
  for (const auto& outcome : options.rebalance_outcomes) rebalances_.Add({{"outcome", outcome}});
}

ClusterProbe::Worker& ClusterProbe::worker_locked(const std::string& name) {
  const auto found = workers_.find(name);
  if (found != workers_.end()) return found->second;
  const prometheus::Labels labels{{"worker", name}};
  Worker worker{.state = {},
                .up = nullptr,
                .experts = &experts_.Add(labels),
                .expert_bytes = &expert_bytes_.Add(labels),
                .queue_depth = &queue_depth_.Add(labels),
                .heartbeats = &heartbeats_.Add(labels),
                .changes = {}};
  for (const auto& state : worker_states_) {
    worker.changes[state] = &changes_.Add({{"worker", name}, {"state", state}});
  }
  return workers_.emplace(name, std::move(worker)).first->second;
}

void ClusterProbe::set_up_locked(const std::string& name, Worker& worker, std::optional<bool> up) {
  if (!up) {
    if (worker.up != nullptr) up_.Remove(std::exchange(worker.up, nullptr));
    return;
  }
  if (worker.up == nullptr) worker.up = &up_.Add({{"worker", name}});
  worker.up->Set(*up ? 1 : 0);
}

void ClusterProbe::leave_state_locked(const Worker& worker) {
  if (!worker.state.empty()) workers_in_state_.Add({{"state", worker.state}}).Decrement();
}

void ClusterProbe::worker_changed(const std::string& name, const std::string& state,
                                  std::optional<bool> up) {
  const std::lock_guard lock(mutex_);
  Worker& worker = worker_locked(name);
  set_up_locked(name, worker, up);
  if (worker.state == state) return;
  leave_state_locked(worker);
  worker.state = state;
  workers_in_state_.Add({{"state", state}}).Increment();
  worker.changes.at(state)->Increment();
}

void ClusterProbe::worker_holds(const std::string& name, uint64_t experts, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const Worker& worker = worker_locked(name);
  worker.experts->Set(static_cast<double>(experts));
  worker.expert_bytes->Set(static_cast<double>(bytes));
}

void ClusterProbe::heartbeat_received(const std::string& name, uint64_t queue_depth) {
  const std::lock_guard lock(mutex_);
  const Worker& worker = worker_locked(name);
  worker.heartbeats->Increment();
  worker.queue_depth->Set(static_cast<double>(queue_depth));
}

void ClusterProbe::forget_worker(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = workers_.find(name);
  if (found == workers_.end()) return;
  const Worker& worker = found->second;
  leave_state_locked(worker);
  if (worker.up != nullptr) up_.Remove(worker.up);
  experts_.Remove(worker.experts);
  expert_bytes_.Remove(worker.expert_bytes);
  queue_depth_.Remove(worker.queue_depth);
  heartbeats_.Remove(worker.heartbeats);
  for (const auto& [state, change] : worker.changes) changes_.Remove(change);
  workers_.erase(found);
}

void ClusterProbe::table_changed(uint64_t version, const std::vector<size_t>& experts_by_replicas) {
  const std::lock_guard lock(mutex_);
  version_.Set(static_cast<double>(version));
  missing_.Set(static_cast<double>(experts_by_replicas.at(0)));
  while (by_replicas_.size() < experts_by_replicas.size()) {
    const std::string replicas = std::to_string(by_replicas_.size());
    by_replicas_.push_back(&with_replicas_.Add({{"replicas", replicas}}));
  }
  for (size_t n = 0; n < by_replicas_.size(); ++n) {
    const size_t experts = n < experts_by_replicas.size() ? experts_by_replicas[n] : 0;
    by_replicas_[n]->Set(static_cast<double>(experts));
  }
}

void ClusterProbe::rebalanced(const std::string& outcome, Duration duration,
                              uint64_t moved_experts) {
  rebalances_.Add({{"outcome", outcome}}).Increment();
  rebalance_seconds_.Observe(to_seconds(duration));
  moved_.Increment(static_cast<double>(moved_experts));
}

}  // namespace pregate::monitoring
