// `pregate serve`: everything in one process, or a cluster when mpirun starts several.
#pragma once

#include <functional>

#include "cli/options.h"

namespace pregate::cli {

struct ServeOptions {
  ModelOptions model;
  BatchingOptions batching;
  HttpOptions http;
  ClusterOptions cluster;
  DispatchOptions dispatch;
  WorkerMetricsOptions metrics;
  GeneralOptions general;
};

Command add_serve(CLI::App& app, std::function<Status(const ServeOptions&)> run);

}  // namespace pregate::cli
