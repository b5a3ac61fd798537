#include "cli/run_serve.h"

#include "base/log.h"
#include "cli/cluster_experts.h"
#include "cli/local_experts.h"
#include "cli/mpi_process.h"
#include "cli/network.h"
#include "cli/run_worker.h"
#include "cli/serve_with_workers.h"
#include "cli/service.h"
#include "transport/mpi/mpi.h"
#include "transport/ucx/ucx.h"

namespace pregate::cli {
namespace {

WorkerOptions worker_of(const ServeOptions& options) {
  WorkerOptions worker;
  worker.model = options.model;
  worker.memory = options.memory;
  worker.cluster = options.cluster;
  worker.host = options.http.host;
  worker.metrics = options.metrics;
  worker.drain_timeout = options.http.drain_timeout;
  worker.general = options.general;
  return worker;
}

Status coordinate(const CoordinatorOptions& options, const ExpectedWorkers& workers,
                  transport::Transport& carrier, Signals& signals) {
  monitoring::Registry registry;
  PREGATE_ASSIGN(const auto network, make_network(options.cluster, carrier, registry));
  PREGATE_ASSIGN(const auto experts,
                 ClusterExperts::create(experts_options(options), workers, *network, registry));
  const ExpertsHooks hooks = experts->hooks();
  Service service(service_options(options, "on workers"), registry);
  experts->start(service.progress());
  return service.run(signals, hooks);
}

Status serve_alone(const ServeOptions& options, Signals& signals) {
  monitoring::Registry registry;
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.model.model));
  LocalExpertsMetrics metrics(registry, checkpoint->config(), options.cluster.per_expert_metrics);
  ExpertsHooks hooks;
  Service service(service_options(options, "in this process"), registry);
  hooks = metrics.hooks({.model = options.model,
                         .memory = options.memory,
                         .kv_cache_bytes = options.batching.kv_cache_bytes},
                        service.progress());
  return service.run(signals, hooks);
}

// For processes that are started one by one, each when it pleases.
Status listen_and_coordinate(const CoordinatorOptions& options) {
  Signals signals;
  PREGATE_TRY(init_log(options.general.log_level, "coordinator"));
  ExpectedWorkers workers{.min_workers = options.listen.min_workers};
  PREGATE_ASSIGN(workers.secret, protocol::Secret::read(options.listen.secret_file));
  auto transport = transport::make_ucx_transport(
      {.self = transport::PeerId(0), .listen = options.listen.address});
  if (!transport) return fail(in_context(std::move(transport.error()), "--listen"));
  spdlog::info("workers join at {}", (*transport)->listen_address());
  return coordinate(options, workers, **transport, signals);
}

bool is_coordinator(const transport::Transport& transport) {
  return transport.self() == transport::PeerId(0);
}

}  // namespace

Status run_serve(const ServeOptions& options) {
  if (!transport::launched_by_mpi()) {
    PREGATE_TRY(refuse_nccl(options.cluster.nccl));
    Signals signals;
    if (options.num_workers > 0) return serve_with_workers(options, signals);
    PREGATE_TRY(init_log(options.general.log_level, "serve"));
    return serve_alone(options, signals);
  }
  if (options.num_workers > 0) {
    return fail(ErrorCode::kInvalidArgument,
                "--workers starts workers without mpirun: use one or the other");
  }
  return run_in_mpi(options.general.log_level, "pregate serve",
                    [&](transport::Transport& transport, Signals& signals) {
                      if (!is_coordinator(transport)) {
                        return work_for_coordinator(worker_of(options), transport, signals);
                      }
                      return coordinate(options, launched_workers(transport), transport, signals);
                    });
}

Status run_coordinator(const CoordinatorOptions& options) {
  if (!options.listen.address.empty()) {
    if (!transport::launched_by_mpi()) return listen_and_coordinate(options);
    return fail(ErrorCode::kInvalidArgument,
                "--listen is for workers that join over the network; under mpirun the workers are "
                "its other ranks: leave --listen out, or start the coordinator without mpirun");
  }
  return run_in_mpi(options.general.log_level, "pregate coordinator",
                    [&](transport::Transport& transport, Signals& signals) -> Status {
                      if (!is_coordinator(transport)) {
                        return fail(ErrorCode::kInvalidArgument,
                                    "the coordinator must be rank 0 and the only one: "
                                    "`mpirun -n 1 pregate coordinator ... : -n N pregate worker "
                                    "...`");
                      }
                      return coordinate(options, launched_workers(transport), transport, signals);
                    });
}

}  // namespace pregate::cli
