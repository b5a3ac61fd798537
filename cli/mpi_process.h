// A process that mpirun started, from joining the job to leaving it.
#pragma once

#include <functional>
#include <string>

#include "cli/signals.h"
#include "transport/transport.h"

namespace pregate::cli {

/// Joins the MPI job, runs `body`, which stops the transport itself, and leaves. Where leaving in
/// the usual way could hang (a rank died), the process ends here. `command` is for the error when
/// mpirun did not start this process.
Status run_in_mpi(const std::string& log_level, const std::string& command,
                  const std::function<Status(transport::Transport&, Signals&)>& body);

}  // namespace pregate::cli
