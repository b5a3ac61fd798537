// Binds what the cluster and dispatch tell about themselves to the metrics.
#pragma once

#include <map>
#include <shared_mutex>
#include <string>
#include <vector>

#include "coordinator/dispatch/probe.h"
#include "coordinator/membership/probe.h"
#include "monitoring/metrics/cluster_probe.h"
#include "monitoring/metrics/dispatch_probe.h"

namespace pregate::cli {

/// Metrics know workers by name. Thread-safe.
class ClusterMetrics final : public coordinator::ClusterProbe, public coordinator::DispatchProbe {
 public:
  /// `dispatch` must outlive it.
  ClusterMetrics(monitoring::Registry& registry, monitoring::DispatchProbe& dispatch);

  void worker_changed(const coordinator::Member& member) override;
  void worker_forgotten(WorkerId worker) override;
  void heartbeat_received(WorkerId worker, size_t queue_depth) override;
  void worker_holds(WorkerId worker, size_t experts, size_t bytes) override;
  void join_refused(coordinator::JoinRefusal refusal) override;
  void table_changed(uint64_t version, const std::vector<size_t>& experts_by_replicas) override;
  void experts_unanswered(size_t experts) override { cluster_.set_unanswered(experts); }
  void rebalanced(std::string_view outcome, Duration took, size_t moved_experts) override;
  void imbalance(double imbalance) override { cluster_.set_imbalance(imbalance); }
  void rebalance_left(size_t replicas) override { cluster_.set_rebalance_left(replicas); }

  void request_sent(WorkerId worker, size_t rows, size_t bytes) override;
  void reply_received(WorkerId worker, size_t bytes, Duration compute,
                      Duration round_trip) override;
  /// Both probes tell of them, each of others.
  void late_reply(WorkerId) override { dispatch_.late_reply(); }
  void batch_resent(coordinator::ResendReason reason) override;

 private:
  std::string name_of(WorkerId worker) const;

  monitoring::DispatchProbe& dispatch_;
  monitoring::ClusterProbe cluster_;
  mutable std::shared_mutex mutex_;
  std::map<WorkerId, std::string> names_;  // guarded by mutex_
};

}  // namespace pregate::cli
