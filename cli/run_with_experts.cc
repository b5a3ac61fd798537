#include "cli/run_with_experts.h"

#include "base/log.h"
#include "cli/mpi_process.h"
#include "cli/progress.h"
#include "cli/run_worker.h"
#include "transport/mpi/mpi.h"

namespace pregate::cli {
namespace {

PhaseProgress show_progress() {
  auto progress = std::make_shared<Progress>(Progress::standard_error(), system_clock());
  return [progress](const std::string& phase, size_t done, size_t total) {
    progress->update(phase, done, total);
  };
}

}  // namespace

void add_experts_flags(Flags& flags, ExpertsOptions& options) {
  add_dispatch_flags(flags, options.dispatch);
  add_cluster_flags(flags, options.cluster);
  add_general_flags(flags, options.general);
}

Status run_with_experts(const std::string& command, const ExpertsOptions& options,
                        const std::function<Status(const ExpertsHooks& experts,
                                                   const PhaseProgress& progress)>& compute) {
  const PhaseProgress progress = show_progress();
  if (!transport::launched_by_mpi()) {
    PREGATE_TRY(init_log(options.general.log_level, command));
    return compute({.connect = ModelRuntime::local_experts(options.model.weights, progress)},
                   progress);
  }
  const auto run_rank = [&](transport::Transport& transport, Signals& signals) -> Status {
    if (transport.self() != transport::PeerId(0)) {
      return work_for_coordinator(
          {.model = options.model, .cluster = options.cluster, .general = options.general},
          transport, signals);
    }
    monitoring::Registry registry;
    ClusterExpertsOptions cluster = options;
    cluster.balance.frozen = true;  // what is measured is to stay the same meanwhile
    PREGATE_ASSIGN(const auto experts, ClusterExperts::create(cluster, launched_workers(transport),
                                                              transport, registry));
    experts->start(progress);
    return compute(experts->hooks(), progress);
  };
  return run_in_mpi(options.general.log_level, "pregate " + command, run_rank);
}

}  // namespace pregate::cli
