// `pregate serve`: everything in one process, or a cluster of processes on this machine
// (--workers), or of those that mpirun starts.
#pragma once

#include <functional>

#include "cli/coordinator.h"

namespace pregate::cli {

struct ServeOptions : CoordinatorOptions {
  ExpertMemoryOptions memory;
  WorkerMetricsOptions metrics;
  size_t num_workers = 0;  ///< Processes on this machine that own the experts; 0: this one does.
};

Command add_serve(CLI::App& app, std::function<Status(const ServeOptions&)> run);

}  // namespace pregate::cli
