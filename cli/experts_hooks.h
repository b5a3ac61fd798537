// What a process that runs an engine asks of the experts' side, wherever the experts are.
#pragma once

#include <functional>

#include "cli/model_runtime.h"

namespace pregate::cli {

struct ExpertsHooks {
  ModelRuntime::ConnectExperts connect;
  /// Whether all experts can be reached; its error is what clients are told. Any thread.
  std::function<Status()> available;
  /// The router's decisions of one layer and step, for the metrics. The engine's thread.
  engine::RoutingObserver observe;
};

}  // namespace pregate::cli
