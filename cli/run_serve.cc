#include "cli/run_serve.h"

#include "base/log.h"
#include "cli/cluster_experts.h"
#include "cli/local_experts.h"
#include "cli/mpi_process.h"
#include "cli/run_worker.h"
#include "cli/service.h"
#include "transport/mpi/mpi.h"

namespace pregate::cli {
namespace {

ServiceOptions service_of(const CoordinatorOptions& options, const char* workers_as) {
  return {.model = options.model,
          .batching = options.batching,
          .http = options.http,
          .workers_as = workers_as};
}

WorkerOptions worker_of(const ServeOptions& options) {
  return {.model = options.model,
          .cluster = options.cluster,
          .host = options.http.host,
          .metrics = options.metrics,
          .drain_timeout = options.http.drain_timeout,
          .general = options.general};
}

Status coordinate(const CoordinatorOptions& options, transport::Transport& transport,
                  Signals& signals) {
  monitoring::Registry registry;
  PREGATE_ASSIGN(const auto experts, ClusterExperts::create({.model = options.model,
                                                             .cluster = options.cluster,
                                                             .dispatch = options.dispatch},
                                                            transport, registry));
  Service service(service_of(options, "on workers"), registry);
  experts->start(service.progress());
  return service.run(signals, experts->hooks());
}

Status serve_alone(const CoordinatorOptions& options, Signals& signals) {
  monitoring::Registry registry;
  Service service(service_of(options, "in this process"), registry);
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.model.model));
  LocalExpertsMetrics metrics(registry, checkpoint->config(), options.cluster.per_expert_metrics);
  return service.run(signals, metrics.hooks(options.model.weights, service.progress()));
}

bool is_coordinator(const transport::Transport& transport) {
  return transport.self() == transport::PeerId(0);
}

}  // namespace

Status run_serve(const ServeOptions& options) {
  if (!transport::launched_by_mpi()) {
    Signals signals;
    PREGATE_TRY(init_log(options.general.log_level, "serve"));
    return serve_alone(options, signals);
  }
  return run_in_mpi(options.general.log_level, "pregate serve",
                    [&](transport::Transport& transport, Signals& signals) {
                      if (!is_coordinator(transport)) {
                        return work_for_coordinator(worker_of(options), transport, signals);
                      }
                      return coordinate(options, transport, signals);
                    });
}

Status run_coordinator(const CoordinatorOptions& options) {
  return run_in_mpi(options.general.log_level, "pregate coordinator",
                    [&](transport::Transport& transport, Signals& signals) -> Status {
                      if (!is_coordinator(transport)) {
                        return fail(ErrorCode::kInvalidArgument,
                                    "the coordinator must be rank 0 and the only one: "
                                    "`mpirun -n 1 pregate coordinator ... : -n N pregate worker "
                                    "...`");
                      }
                      return coordinate(options, transport, signals);
                    });
}

}  // namespace pregate::cli
