#include "cli/serve_with_workers.h"

#include <algorithm>

#include "base/log.h"
#include "base/memory.h"
#include "cli/cluster_experts.h"
#include "cli/private_directory.h"
#include "cli/quantity.h"
#include "cli/service.h"
#include "cli/weight_name.h"
#include "compute/backend.h"
#include "transport/ucx/ucx.h"

namespace pregate::cli {
namespace {

/// What runs now, even if the file was replaced meanwhile.
constexpr const char* kOwnExecutable = "/proc/self/exe";

std::string own_name() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink(kOwnExecutable, error);
  return error ? "pregate" : path.string();
}

std::string random_secret() {
  std::string secret;
  for (const std::byte byte : protocol::make_nonce()) {
    secret += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  return secret;
}

std::vector<std::string> worker_arguments(const ServeOptions& options, size_t number) {
  const size_t first_port = options.metrics.metrics_port;
  std::vector<std::string> arguments = {
      "--name",
      fmt::format("worker-{}", number),
      "--model",
      options.model.model.string(),
      "--weights",
      name_of(options.model.weights),
      "--backend",
      options.model.backend,
      "--threads",
      std::to_string(options.model.num_threads),
      "--heartbeat-interval",
      format_duration(options.cluster.heartbeat_interval),
      "--host",
      options.http.host,
      "--metrics-port",
      std::to_string(first_port == 0 ? 0 : first_port + number - 1),
      "--log-level",
      options.general.log_level};
  const ExpertMemoryOptions& memory = options.memory;
  if (memory.memory_bytes > 0) {
    arguments.insert(arguments.end(), {"--expert-memory", format_bytes(memory.memory_bytes),
                                       "--expert-eviction", memory.eviction, "--expert-io",
                                       memory.io == ExpertIo::kDirect ? "direct" : "mapped",
                                       "--expert-loaders", std::to_string(memory.num_loaders)});
  }
  if (!options.general.config.empty()) {
    arguments.insert(arguments.end(), {"--config", options.general.config.string()});
  }
  return arguments;
}

/// Of what the workers keep experts in: the host's memory, or the device's.
Result<uint64_t> available_to_workers(const ServeOptions& options) {
  if (options.memory.memory_bytes > 0) return 0;  // Nobody asks.
  ThreadPool threads(1);
  PREGATE_ASSIGN(const auto backend, compute::make_backend(options.model.backend, threads));
  return backend->free_bytes().value_or(available_memory_bytes());
}

/// All that must be gone before the workers may end.
Status serve(const ServeOptions& options, transport::Transport& transport,
             const ExpectedWorkers& expected, LocalWorkers& workers, Signals& signals,
             const std::function<void()>& before_hard_exit) {
  monitoring::Registry registry;
  PREGATE_ASSIGN(const auto network, make_network(options.cluster, transport, registry));
  PREGATE_ASSIGN(const auto experts,
                 ClusterExperts::create(experts_options(options), expected, *network, registry));
  const ExpertsHooks hooks = experts->hooks();
  ServiceOptions service_of =
      service_options(options, fmt::format("on {} workers on this machine", options.num_workers));
  service_of.before_hard_exit = before_hard_exit;
  Service service(std::move(service_of), registry);
  experts->start(service.progress());
  workers.start();
  const Status status = service.run(signals, hooks);
  workers.expect_end();
  return status;
}

}  // namespace

size_t threads_of_each(const ServeOptions& options, size_t num_cores) {
  if (options.model.num_threads > 0) return options.model.num_threads;
  return std::max<size_t>(1, num_cores / std::max<size_t>(1, options.num_workers));
}

uint64_t memory_of_each(const ServeOptions& options, uint64_t available_bytes) {
  if (options.memory.memory_bytes > 0) return 0;
  const uint64_t for_all = less_reserve(available_bytes);
  // A cache that would take more than half is none that fits: the coordinator will say so.
  const uint64_t cache = std::min(options.batching.kv_cache_bytes, for_all / 2);
  return (for_all - cache) / std::max<size_t>(1, options.num_workers);
}

std::vector<LocalProgram> worker_programs(const ServeOptions& options,
                                          const LocalCluster& cluster) {
  std::vector<LocalProgram> programs;
  for (size_t number = 1; number <= options.num_workers; ++number) {
    std::vector<std::string> arguments = {own_name(),      "worker",
                                          "--join",        cluster.address,
                                          "--memory",      format_bytes(cluster.memory_bytes),
                                          "--secret-file", cluster.secret_file.string()};
    std::ranges::move(worker_arguments(options, number), std::back_inserter(arguments));
    programs.push_back({.name = fmt::format("worker-{}", number),
                        .executable = kOwnExecutable,
                        .arguments = std::move(arguments)});
  }
  return programs;
}

Status serve_with_workers(const ServeOptions& given, Signals& signals) {
  ServeOptions options = given;
  options.model.num_threads = threads_of_each(given, thread_count(0));
  PREGATE_TRY(init_log(options.general.log_level, "coordinator"));
  PREGATE_ASSIGN(const uint64_t available, available_to_workers(options));
  PREGATE_ASSIGN(PrivateDirectory directory, PrivateDirectory::create());
  PREGATE_ASSIGN(const auto secret_file, directory.write("secret", random_secret()));
  ExpectedWorkers expected{.min_workers = options.num_workers, .complete = true};
  PREGATE_ASSIGN(expected.secret, protocol::Secret::read(secret_file));
  const auto transport =
      transport::make_ucx_transport({.self = transport::PeerId(0), .listen = "127.0.0.1:0"});
  if (!transport) return fail(in_context(transport.error(), "--workers"));
  const LocalCluster cluster{.address = (*transport)->listen_address(),
                             .secret_file = secret_file,
                             .memory_bytes = memory_of_each(options, available)};
  LocalWorkers workers(worker_programs(options, cluster), {});
  const Status status =
      serve(options, **transport, expected, workers, signals, [&] { directory.remove(); });
  workers.stop();
  return status;
}

}  // namespace pregate::cli
