// What `pregate worker` does.
#pragma once

#include "cli/signals.h"
#include "cli/worker.h"
#include "transport/transport.h"

namespace pregate::cli {

/// Serves rank 0 of the same mpirun.
Status run_worker(const WorkerOptions& options);

/// The same over a transport that is there already.
Status work_for_coordinator(const WorkerOptions& options, transport::Transport& transport,
                            Signals& signals);

}  // namespace pregate::cli
