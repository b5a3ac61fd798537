#include "cli/run_with_experts.h"

#include "base/log.h"
#include "cli/expert_memory.h"
#include "cli/mpi_process.h"
#include "cli/network.h"
#include "cli/progress.h"
#include "cli/run_worker.h"
#include "transport/mpi/mpi.h"

namespace pregate::cli {
namespace {

/// What these commands take at most.
constexpr uint64_t kKvCacheBytes = uint64_t{2} << 30;

PhaseProgress show_progress() {
  auto progress = std::make_shared<Progress>(Progress::standard_error(), system_clock());
  return [progress](const std::string& phase, size_t done, size_t total) {
    progress->update(phase, done, total);
  };
}

}  // namespace

void add_experts_flags(Flags& flags, ExpertsOptions& options) {
  add_dispatch_flags(flags, options.dispatch);
  add_expert_memory_flags(flags, options.memory);
  add_cluster_flags(flags, options.cluster);
  add_general_flags(flags, options.general);
}

Status run_with_experts(const std::string& command, const ExpertsOptions& options,
                        const std::function<Status(const ExpertsHooks& experts,
                                                   const PhaseProgress& progress)>& compute) {
  const PhaseProgress progress = show_progress();
  if (!transport::launched_by_mpi()) {
    PREGATE_TRY(refuse_nccl(options.cluster.nccl));
    PREGATE_TRY(init_log(options.general.log_level, command));
    worker::CacheProbe probe;
    const LocalExpertsOptions local{
        .model = options.model, .memory = options.memory, .kv_cache_bytes = kKvCacheBytes};
    const auto get_probe = [&]() -> worker::CacheProbe& { return probe; };
    return compute({.connect = connect_local_experts(local, get_probe, progress)}, progress);
  }
  const auto run_rank = [&](transport::Transport& transport, Signals& signals) -> Status {
    if (transport.self() != transport::PeerId(0)) {
      return work_for_coordinator({.model = options.model,
                                   .cluster = options.cluster,
                                   .memory = options.memory,
                                   .general = options.general},
                                  transport, signals);
    }
    monitoring::Registry registry;
    ClusterExpertsOptions cluster = options;
    cluster.balance.frozen = true;  // what is measured is to stay the same meanwhile
    cluster.homeless_grace = options.dispatch.expert_wait;  // there is nothing to do meanwhile
    PREGATE_ASSIGN(const auto network, make_network(options.cluster, transport, registry));
    PREGATE_ASSIGN(const auto experts, ClusterExperts::create(cluster, launched_workers(transport),
                                                              *network, registry));
    experts->start(progress);
    return compute(experts->hooks(), progress);
  };
  return run_in_mpi(options.general.log_level, "pregate " + command, run_rank);
}

}  // namespace pregate::cli
