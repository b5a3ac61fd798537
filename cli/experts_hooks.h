// What a process that runs an engine asks of the experts' side, wherever the experts are.
#pragma once

#include <functional>

#include "cli/model_runtime.h"
#include "coordinator/api/admin_routes.h"
#include "coordinator/membership/cluster.h"
#include "coordinator/scheduling/batch_policy.h"

namespace pregate::cli {

struct ExpertsHooks {
  ModelRuntime::ConnectExperts connect;
  /// Whether requests are taken; its error is what clients are told. Any thread.
  std::function<Status()> available = [] { return Status{}; };
  /// Whether all experts can be reached; its error is what is missing. Any thread.
  std::function<Status()> health = [] { return Status{}; };
  /// The router's decisions of one layer and step, for the metrics. The engine's thread.
  engine::RoutingObserver observe = {};
  /// How busy those are who compute an expert, for the batch policy. The scheduler's thread.
  coordinator::ExpertLoad expert_load = [](ExpertId) { return 0.0; };
  coordinator::AdminHooks admin = {};  ///< Empty: there are no workers.
  /// Who the workers are and how; empty: there are none. Any thread.
  std::function<coordinator::ClusterInfo()> cluster = {};
};

}  // namespace pregate::cli
