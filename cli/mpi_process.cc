#include "cli/mpi_process.h"

#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "cli/command.h"
#include "transport/mpi/mpi.h"

namespace pregate::cli {

Status run_in_mpi(const std::string& log_level, const std::string& command,
                  const std::function<Status(transport::Transport&, Signals&)>& body) {
  Signals signals;
  PREGATE_TRY(init_log(log_level, "pregate"));
  if (!transport::launched_by_mpi()) {
    return fail(ErrorCode::kInvalidArgument,
                "{} is one of several processes: let workers join over the network (coordinator: "
                "--listen HOST:PORT, worker: --join HOST:PORT, both: --secret-file FILE), or start "
                "all together with mpirun, for example `mpirun -n 3 pregate serve --model DIR`",
                command);
  }
  PREGATE_ASSIGN(const auto transport, transport::make_mpi_transport({}));
  const uint32_t rank = transport->self().value;
  PREGATE_TRY(init_log(log_level, rank == 0 ? "coordinator" : fmt::format("worker/{}", rank)));
  const Status status = body(*transport, signals);
  if (!transport->needs_hard_exit()) return status;
  if (!status) fmt::print(stderr, "pregate: {}\n", status.error().message);
  spdlog::shutdown();
  std::fflush(nullptr);
  std::_Exit(status ? kExitOk : kExitFailed);
}

}  // namespace pregate::cli
