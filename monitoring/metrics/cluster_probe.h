#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

/// The words that labels can have: their series begin at zero, so that a first increase is seen as
/// one.
struct ClusterProbeOptions {
  std::vector<std::string> worker_states;
  std::vector<std::string> refusal_reasons;
  std::vector<std::string> rebalance_outcomes;
};

/// What the coordinator knows of its workers and of where the experts are. Thread-safe.
class ClusterProbe {
 public:
  ClusterProbe(Registry& registry, const ClusterProbeOptions& options);

  /// `up`: whether it answers; nothing if it is not to answer any more.
  void worker_changed(const std::string& worker, const std::string& state, std::optional<bool> up);
  void worker_holds(const std::string& worker, uint64_t experts, uint64_t bytes);
  void heartbeat_received(const std::string& worker, uint64_t queue_depth);
  /// Its series end.
  void forget_worker(const std::string& worker);
  void join_refused(const std::string& reason) { refusals_.Add({{"reason", reason}}).Increment(); }
  /// [n]: how many experts have n replicas.
  void table_changed(uint64_t version, const std::vector<size_t>& experts_by_replicas);
  void set_unanswered(uint64_t experts) { unanswered_.Set(static_cast<double>(experts)); }
  void rebalanced(const std::string& outcome, Duration duration, uint64_t moved_experts);
  void set_rebalance_left(uint64_t replicas) { left_.Set(static_cast<double>(replicas)); }
  void set_imbalance(double imbalance) { imbalance_.Set(imbalance); }

 private:
  using Gauges = prometheus::Family<prometheus::Gauge>;
  using Counters = prometheus::Family<prometheus::Counter>;
  struct Worker {
    std::string state;
    prometheus::Gauge* up;  // null: not to answer
    prometheus::Gauge* experts;
    prometheus::Gauge* expert_bytes;
    prometheus::Gauge* queue_depth;
    prometheus::Counter* heartbeats;
    std::map<std::string, prometheus::Counter*> changes;  // by the state changed to
  };
  Worker& worker_locked(const std::string& name);
  void set_up_locked(const std::string& name, Worker& worker, std::optional<bool> up);
  void leave_state_locked(const Worker& worker);

  Gauges& workers_in_state_;
  Gauges& up_;
  Gauges& experts_;
  Gauges& expert_bytes_;
  Gauges& queue_depth_;
  Counters& heartbeats_;
  Counters& changes_;
  Counters& refusals_;
  Counters& rebalances_;
  prometheus::Histogram& rebalance_seconds_;
  prometheus::Counter& moved_;
  prometheus::Gauge& left_;
  prometheus::Gauge& imbalance_;
  prometheus::Gauge& version_;
  prometheus::Gauge& missing_;
  prometheus::Gauge& unanswered_;
  Gauges& with_replicas_;
  const std::vector<std::string> worker_states_;

  std::mutex mutex_;                       // held while a worker's series are used: they can end
  std::map<std::string, Worker> workers_;  // guarded by mutex_
  std::vector<prometheus::Gauge*> by_replicas_;  // guarded by mutex_
};

}  // namespace pregate::monitoring
