// What `pregate worker` does.
#pragma once

#include "cli/signals.h"
#include "cli/worker.h"
#include "transport/transport.h"

namespace pregate::cli {

/// Joins the coordinator of --join over UCX, or serves rank 0 of the same mpirun.
Status run_worker(const WorkerOptions& options);

/// The latter, as a rank that is there already.
Status work_for_coordinator(const WorkerOptions& options, transport::Transport& transport,
                            Signals& signals);

}  // namespace pregate::cli
