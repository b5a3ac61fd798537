#include "cli/run_worker.h"

#include <algorithm>
#include <future>

#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "cli/expert_memory.h"
#include "cli/mpi_process.h"
#include "cli/network.h"
#include "cli/quantity.h"
#include "cli/version.h"
#include "coordinator/api/api_server.h"
#include "model/checkpoint/checkpoint.h"
#include "model/fingerprint.h"
#include "model/weights.h"
#include "monitoring/metrics/http_probe.h"
#include "monitoring/metrics/start_probe.h"
#include "monitoring/metrics/worker_probe.h"
#include "transport/ucx/ucx.h"
#include "worker/experts/capacity.h"
#include "worker/experts/on_disk.h"
#include "worker/worker.h"

namespace pregate::cli {
namespace {

constexpr auto kSignalPoll = std::chrono::milliseconds(50);
constexpr auto kLookUpPause = std::chrono::seconds(1);
const transport::PeerId kCoordinator(0);

/// Binds what a worker tells about itself to the metrics.
class WorkerMetrics final : public worker::Probe {
 public:
  explicit WorkerMetrics(monitoring::Registry& registry)
      : metrics_(registry), http_(registry), start_(registry, kVersion) {}

  void batch_computed(size_t, size_t rows, Duration compute) override {
    metrics_.computed(rows, compute);
  }
  void queue_depth(size_t requests) override { metrics_.set_queue_depth(requests); }
  void expert_loaded(size_t, Duration took) override {
    metrics_.expert_loaded();
    start_.phase_finished("experts", loading_ += took);
  }
  void load_failed() override { metrics_.load_failed(); }
  void waits_for_room(size_t experts) override { metrics_.set_waiting_for_room(experts); }
  void holds(size_t experts, size_t bytes) override { metrics_.set_experts(experts, bytes); }
  void joined(bool joined) override { metrics_.set_joined(joined); }
  void rejoined() override { metrics_.rejoined(); }
  monitoring::HttpProbe* http() const { return &http_; }

 private:
  monitoring::WorkerProbe metrics_;
  mutable monitoring::HttpProbe http_;  // thread-safe
  monitoring::StartProbe start_;
  Duration loading_{};  // of all experts so far; the loading thread's
};

/// Few: serving comes first, and reading the files takes most of the time.
size_t packer_threads(size_t num_threads) { return std::clamp<size_t>(num_threads / 4, 1, 4); }

Result<worker::ExpertKey> first_expert(const model::Checkpoint& checkpoint) {
  const model::ModelConfig& config = checkpoint.config();
  for (uint32_t layer = 0; layer < config.num_layers(); ++layer) {
    if (config.layers[layer].is_moe) return worker::ExpertKey(LayerIdx(layer), ExpertId(0));
  }
  return fail(ErrorCode::kInvalidArgument, "{}: the model has no routed experts",
              checkpoint.directory().string());
}

Result<uint64_t> memory_for_experts(uint64_t asked, const compute::Backend& backend) {
  uint64_t bytes = asked;
  if (bytes == 0) bytes = backend.free_bytes().value_or(less_reserve(available_memory_bytes()));
  if (bytes > 0) return bytes;
  return fail(ErrorCode::kResourceExhausted,
              "cannot find out how much memory is free: say with --memory how much is for experts");
}

Result<std::string> name_of(const JoinOptions& options) {
  if (!options.name.empty()) return options.name;
  char host[256] = {};
  ::gethostname(host, sizeof(host) - 1);
  if (protocol::is_worker_name(host)) return host;
  return fail(ErrorCode::kInvalidArgument,
              "this machine's name (\"{}\") cannot be a worker's: give one with --name", host);
}

/// How a worker of an MPI job speaks with rank 0: mpirun vouches for both, and a rank cannot come
/// back.
worker::SessionOptions mpi_session(const transport::Transport& transport) {
  worker::SessionOptions session;
  session.coordinator = kCoordinator;
  session.name = fmt::format("worker-{}", transport.self());
  return session;
}

Result<worker::SessionOptions> joining_session(const JoinOptions& options) {
  worker::SessionOptions session;
  session.coordinator = kCoordinator;
  session.title = "coordinator " + options.address;
  PREGATE_ASSIGN(session.name, name_of(options));
  PREGATE_ASSIGN(session.secret, protocol::Secret::read(options.secret_file));
  session.reconnect = true;
  return session;
}

/// /health and /metrics of this worker.
coordinator::StatusServer make_status_server(const WorkerOptions& options, uint32_t number,
                                             monitoring::Registry& registry,
                                             const worker::Worker& worker,
                                             const WorkerMetrics& metrics) {
  using Stage = worker::Worker::Stage;
  coordinator::HttpServerOptions http;
  http.address = options.host;
  const size_t first = options.metrics.metrics_port;
  http.port = static_cast<uint16_t>(first == 0 ? 0 : first + number - 1);
  const auto readiness = [&worker]() -> coordinator::Readiness {
    switch (worker.stage()) {
      case Stage::kJoining:
        return {false, "joining the coordinator"};
      case Stage::kLoading:
        return {false, "loading experts"};
      case Stage::kReady:
        break;
    }
    return {true, "ready"};
  };
  return {http,
          {.readiness = readiness,
           .scrape = [&registry] { return registry.scrape(); },
           .version = kVersion},
          metrics.http()};
}

/// Runs the worker until the coordinator dismisses it. After a first signal it goes on for as long
/// as the coordinator may still need it, `drain` being called once; after a second one it ends at
/// once.
int run_until_dismissed(worker::Worker& worker, Signals& signals, Duration drain_timeout,
                        const std::function<void()>& drain) {
  auto running = std::async(std::launch::async, [&] { return worker.run(); });
  std::optional<TimePoint> leave_at;
  while (running.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    if (signals.wait(kSignalPoll)) {
      if (leave_at) {
        worker.stop();
      } else {
        spdlog::info("stopping when the coordinator says so, in {:.1f} s at the latest",
                     to_seconds(drain_timeout));
        drain();
      }
      leave_at = system_clock().now() + drain_timeout;
    }
    if (leave_at && system_clock().now() > *leave_at) worker.stop();
  }
  return running.get();
}

/// The checkpoint and what computes with it.
class Machine {
 public:
  static Result<std::unique_ptr<Machine>> create(const ModelOptions& options) {
    auto machine = std::unique_ptr<Machine>(new Machine(options));
    PREGATE_ASSIGN(machine->checkpoint_, model::Checkpoint::open(options.model));
    PREGATE_ASSIGN(machine->backend_, compute::make_backend(options.backend, machine->threads_));
    // A back end and its threads are for one thread at a time: experts are packed by another one,
    // for the same kernels.
    PREGATE_ASSIGN(machine->packer_,
                   compute::make_backend(machine->backend_->name(), machine->packer_threads_));
    return machine;
  }

  /// Experts stay on disk, and in memory only as far as the options allow.
  Status keep_on_disk(const ExpertMemoryOptions& options, monitoring::Registry& registry) {
    PREGATE_ASSIGN(auto readers, expert_readers(checkpoint_, backend_->name(), weights_, options));
    PREGATE_ASSIGN(sizes_, measure_experts(*checkpoint_, readers.front()));
    cache_metrics_ = std::make_unique<ExpertCacheMetrics>(registry);
    PREGATE_ASSIGN(
        cache_, make_expert_cache(std::move(readers), options, sizes_, *backend_, *cache_metrics_));
    return {};
  }

  compute::Backend& backend() { return *backend_; }
  worker::ExpertCache* cache() { return cache_.get(); }
  size_t num_layers() const { return checkpoint_->config().num_layers(); }
  /// For the loader of what is assigned.
  worker::ReadExpert read_assigned() {
    if (!cache_) return read_expert();
    return worker::ExpertOnDisk::reader(weights_, checkpoint_->config().hidden_size);
  }
  worker::ReadExpert read_expert() {
    return [this](LayerIdx layer, ExpertId expert) {
      return model::load_expert(*checkpoint_, layer, expert, *packer_, weights_);
    };
  }
  /// Fills in what this machine has and can do.
  Status describe(worker::SessionOptions& session, uint64_t memory_bytes) {
    session.weight_format = weights_;
    PREGATE_ASSIGN(session.model_fingerprint, model::fingerprint(*checkpoint_));
    PREGATE_ASSIGN(const worker::ExpertKey sample, first_expert(*checkpoint_));
    if (!cache_) {
      PREGATE_ASSIGN(memory_bytes, memory_for_experts(memory_bytes, *backend_));
    } else if (memory_bytes == 0) {
      memory_bytes = sizes_.count * sizes_.largest_bytes;
    }
    const worker::CapacityOptions options{
        .sample = sample, .num_threads = threads_.num_threads(), .memory_bytes = memory_bytes};
    PREGATE_ASSIGN(session.capacity,
                   worker::measure_capacity(read_expert(), *backend_, options, system_clock()));
    session.capacity.wants_plans = cache_ != nullptr;
    spdlog::info("{}: {:.0f} rows/s with {} threads of {}; {} for experts of {}", session.name,
                 session.capacity.rows_per_second, session.capacity.threads,
                 session.capacity.backend, describe_bytes(memory_bytes),
                 describe_bytes(session.capacity.expert_bytes));
    return {};
  }

 private:
  explicit Machine(const ModelOptions& options)
      : weights_(options.weights),
        threads_(thread_count(options.num_threads)),
        packer_threads_(packer_threads(threads_.num_threads())) {}

  const compute::WeightFormat weights_;
  ThreadPool threads_, packer_threads_;
  std::shared_ptr<const model::Checkpoint> checkpoint_;
  std::unique_ptr<compute::Backend> backend_, packer_;
  ExpertSizes sizes_;
  std::unique_ptr<ExpertCacheMetrics> cache_metrics_;
  std::unique_ptr<worker::ExpertCache> cache_;  // null: experts are in memory
};

Status work(const WorkerOptions& options, worker::SessionOptions session,
            transport::Transport& carrier, Signals& signals) {
  monitoring::Registry registry;
  // Before the device's memory is measured and shared out.
  PREGATE_ASSIGN(const auto network, make_network(options.cluster, carrier, registry));
  transport::Transport& transport = network->transport();
  PREGATE_ASSIGN(const auto machine, Machine::create(options.model));
  if (options.memory.memory_bytes > 0) {
    PREGATE_TRY(machine->keep_on_disk(options.memory, registry));
  }
  PREGATE_TRY(machine->describe(session, options.memory_bytes));
  session.heartbeat_interval = options.cluster.heartbeat_interval;
  session.max_silence = options.cluster.dead_after;
  const bool may_leave = session.reconnect;

  WorkerMetrics metrics(registry);
  Random random(seed_from_system());
  worker::Worker worker(
      {transport, machine->backend(), machine->read_assigned(), system_clock(), random, metrics,
       machine->cache(), machine->num_layers(), network->share(machine->backend())},
      {.session = std::move(session)});
  coordinator::StatusServer status =
      make_status_server(options, transport.self().value, registry, worker, metrics);
  PREGATE_ASSIGN(const uint16_t port, status.start());
  spdlog::info("metrics on http://{}:{}/metrics", options.host, port);
  // A rank of MPI ends with all others, when the coordinator has ended what it does.
  const int code = run_until_dismissed(worker, signals, options.drain_timeout, [&] {
    if (may_leave) worker.drain();
  });
  status.stop(std::chrono::milliseconds(100));
  if (code != 0) return fail(ErrorCode::kUnavailable, "the worker ended after an error");
  return {};
}

/// UCX must know through which network the coordinator is reached, so its name must be known first:
/// tries until it is. Null after a signal.
Result<std::unique_ptr<transport::Transport>> joining_transport(const std::string& address,
                                                                Signals& signals) {
  for (bool said = false;; said = true) {
    auto transport = transport::make_ucx_transport(
        {.self = transport::PeerId(1), .addresses = {{kCoordinator, address}}});
    if (transport) return std::move(*transport);
    const Error error = in_context(std::move(transport.error()), "--join");
    if (error.code != ErrorCode::kNotFound) return fail(error);
    if (!said) spdlog::warn("{}; trying until somebody knows it", error.message);
    if (signals.wait(kLookUpPause)) return nullptr;
  }
}

Status join_and_work(const WorkerOptions& options) {
  Signals signals;
  PREGATE_ASSIGN(auto session, joining_session(options.join));
  PREGATE_TRY(init_log(options.general.log_level, "worker/" + session.name));
  PREGATE_ASSIGN(const auto transport, joining_transport(options.join.address, signals));
  if (!transport) return {};
  return work(options, std::move(session), *transport, signals);
}

}  // namespace

Status work_for_coordinator(const WorkerOptions& options, transport::Transport& transport,
                            Signals& signals) {
  return work(options, mpi_session(transport), transport, signals);
}

Status run_worker(const WorkerOptions& options) {
  if (!options.join.address.empty()) return join_and_work(options);
  return run_in_mpi(options.general.log_level, "pregate worker",
                    [&](transport::Transport& transport, Signals& signals) -> Status {
                      if (transport.self() == kCoordinator) {
                        return fail(ErrorCode::kInvalidArgument,
                                    "rank 0 must be the coordinator: put `pregate coordinator` "
                                    "first, or use `mpirun -n N pregate serve`");
                      }
                      return work_for_coordinator(options, transport, signals);
                    });
}

}  // namespace pregate::cli
