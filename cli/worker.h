// `pregate worker`: a process of a cluster that owns experts.
#pragma once

#include <functional>

#include "cli/options.h"

namespace pregate::cli {

struct WorkerOptions {
  ModelOptions model;
  ClusterOptions cluster;
  std::string host = "127.0.0.1";  ///< Where /metrics is served.
  WorkerMetricsOptions metrics;
  std::chrono::milliseconds drain_timeout{std::chrono::seconds(30)};
  GeneralOptions general;
};

Command add_worker(CLI::App& app, std::function<Status(const WorkerOptions&)> run);

}  // namespace pregate::cli
