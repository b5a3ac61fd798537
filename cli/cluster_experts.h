// Experts held by workers, as the coordinator's process (rank 0 of a cluster) puts them together.
#pragma once

#include <atomic>
#include <future>
#include <memory>

#include "cli/dispatch_metrics.h"
#include "cli/experts_hooks.h"
#include "cli/options.h"
#include "cli/routing_counter.h"
#include "coordinator/dispatch/cluster.h"
#include "model/checkpoint/checkpoint.h"

namespace pregate::cli {

struct ClusterExpertsOptions {
  ModelOptions model;
  ClusterOptions cluster;
  DispatchOptions dispatch;
};

class ClusterExperts {
 public:
  /// All peers of the launch are workers. References must outlive it.
  static Result<std::unique_ptr<ClusterExperts>> create(const ClusterExpertsOptions& options,
                                                        transport::Transport& transport,
                                                        monitoring::Registry& registry);
  /// Stops the transport.
  ~ClusterExperts();

  /// Begins to load, at the same time as the caller loads the backbone; hooks().connect waits for
  /// the end. `progress` is called on another thread.
  void start(PhaseProgress progress);
  /// Valid while this object lives; what connect makes must be gone before it is.
  ExpertsHooks hooks();

 private:
  ClusterExperts(const ClusterExpertsOptions& options, monitoring::Registry& registry,
                 const model::ModelConfig& config, std::vector<WorkerId> workers);

  const ClusterExpertsOptions options_;
  monitoring::DispatchProbe metrics_;
  DispatchMetrics probe_;
  RoutingCounter routing_;
  std::shared_ptr<const coordinator::Placement> placement_;
  std::unique_ptr<coordinator::Cluster> cluster_;
  std::atomic<bool> give_up_{false};
  std::future<Status> joining_;
};

}  // namespace pregate::cli
