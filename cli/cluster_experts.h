// Experts held by workers, as the coordinator's process puts them together.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/ticker.h"
#include "cli/cluster_metrics.h"
#include "cli/coordinator.h"
#include "cli/expert_gate.h"
#include "cli/experts_hooks.h"
#include "cli/network.h"
#include "cli/routing_counter.h"
#include "coordinator/dispatch/waiter.h"
#include "coordinator/membership/cluster.h"
#include "model/checkpoint/checkpoint.h"

namespace pregate::cli {

struct ClusterExpertsOptions {
  ModelOptions model;
  ClusterOptions cluster;
  DispatchOptions dispatch;
  BalanceOptions balance;
  Duration homeless_grace = std::chrono::milliseconds(50);  ///< See coordinator::DispatchOptions.
};

ClusterExpertsOptions experts_options(const CoordinatorOptions& options);

/// Who may join.
struct ExpectedWorkers {
  protocol::Secret secret;
  size_t min_workers = 1;
  /// There are just min_workers, numbered from 1; nobody else will come.
  bool complete = false;
};

/// Those that were launched together with the process of `transport`; the launch vouches for them.
ExpectedWorkers launched_workers(const transport::Transport& transport);

class ClusterExperts {
 public:
  /// References must outlive it.
  static Result<std::unique_ptr<ClusterExperts>> create(const ClusterExpertsOptions& options,
                                                        const ExpectedWorkers& workers,
                                                        Network& network,
                                                        monitoring::Registry& registry);
  /// Sends the workers away and stops the transport.
  ~ClusterExperts();

  /// Lets workers join. They load at the same time as the caller loads the backbone;
  /// hooks().connect waits for them, and calls `progress`.
  void start(PhaseProgress progress);
  /// Valid while this object lives; what connect makes must be gone before it is.
  ExpertsHooks hooks();

 private:
  ClusterExperts(const ClusterExpertsOptions& options, Network& network,
                 monitoring::Registry& registry, const model::ModelConfig& config);
  void tick();
  void note_busyness();
  double busyness_of(ExpertId expert) const;
  Status wait_for_workers();

  const ClusterExpertsOptions options_;
  Network& network_;
  const Clock& clock_ = system_clock();
  monitoring::DispatchProbe dispatch_metrics_;
  ClusterMetrics probe_;
  RoutingCounter routing_;
  ExpertGate gate_;
  coordinator::ThreadWaiter waiter_;
  std::unique_ptr<coordinator::Cluster> cluster_;
  PhaseProgress progress_;
  mutable std::mutex busyness_mutex_;
  std::vector<double> busyness_;  // guarded by busyness_mutex_: by expert
  TimePoint busyness_due_{};      // the ticker's
  std::atomic<bool> give_up_{false};
  std::optional<Ticker> ticker_;
};

}  // namespace pregate::cli
