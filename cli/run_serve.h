// What `pregate serve` and `pregate coordinator` do.
#pragma once

#include "cli/coordinator.h"
#include "cli/serve.h"

namespace pregate::cli {

/// One process alone, or this rank's part of a cluster when mpirun started several.
Status run_serve(const ServeOptions& options);

/// Rank 0 of a cluster.
Status run_coordinator(const CoordinatorOptions& options);

}  // namespace pregate::cli
