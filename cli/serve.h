// `pregate serve`: everything in one process, or a cluster when mpirun starts several.
#pragma once

#include <functional>

#include "cli/coordinator.h"

namespace pregate::cli {

struct ServeOptions : CoordinatorOptions {
  WorkerMetricsOptions metrics;
};

Command add_serve(CLI::App& app, std::function<Status(const ServeOptions&)> run);

}  // namespace pregate::cli
