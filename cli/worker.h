// `pregate worker`: a process of a cluster that owns experts.
#pragma once

#include <functional>

#include "cli/options.h"

namespace pregate::cli {

/// How a worker that is started on its own finds its cluster.
struct JoinOptions {
  std::string address;  ///< "HOST:PORT" of the coordinator; empty: rank 0 of the same mpirun.
  std::string name;     ///< Empty: what the machine calls itself.
  std::filesystem::path secret_file;
};

struct WorkerOptions {
  ModelOptions model;
  ClusterOptions cluster;
  JoinOptions join;
  uint64_t memory_bytes = 0;  ///< For experts; 0: what is free, less a reserve.
  ExpertMemoryOptions memory;
  std::string host = "127.0.0.1";  ///< Where /metrics is served.
  WorkerMetricsOptions metrics;
  std::chrono::milliseconds drain_timeout{std::chrono::seconds(30)};
  GeneralOptions general;
};

/// Errors of settings that only make sense together, or have no sense.
Status check(const JoinOptions& options);

Command add_worker(CLI::App& app, std::function<Status(const WorkerOptions&)> run);

}  // namespace pregate::cli
