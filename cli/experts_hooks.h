// What a process that runs an engine asks of the experts' side, wherever the experts are.
#pragma once

#include <functional>

#include "cli/model_runtime.h"
#include "coordinator/api/admin_routes.h"

namespace pregate::cli {

struct ExpertsHooks {
  ModelRuntime::ConnectExperts connect;
  /// Whether requests are taken; its error is what clients are told. Any thread.
  std::function<Status()> available = [] { return Status{}; };
  /// Whether all experts can be reached; its error is what is missing. Any thread.
  std::function<Status()> health = [] { return Status{}; };
  /// The router's decisions of one layer and step, for the metrics. The engine's thread.
  engine::RoutingObserver observe = {};
  coordinator::AdminHooks admin = {};  ///< Empty: there are no workers.
};

}  // namespace pregate::cli
