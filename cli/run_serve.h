// What `pregate serve` and `pregate coordinator` do.
#pragma once

#include "cli/coordinator.h"
#include "cli/serve.h"

namespace pregate::cli {

/// One process alone, a coordinator with workers that it starts on this machine (--workers), or
/// this rank's part of a cluster when mpirun started several.
Status run_serve(const ServeOptions& options);

/// The process that workers join (--listen), or rank 0 of an mpirun.
Status run_coordinator(const CoordinatorOptions& options);

}  // namespace pregate::cli
