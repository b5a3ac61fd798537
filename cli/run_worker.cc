#include "cli/run_worker.h"

#include <future>

#include "base/log.h"
#include "cli/mpi_process.h"
#include "cli/version.h"
#include "coordinator/api/api_server.h"
#include "model/checkpoint/checkpoint.h"
#include "model/fingerprint.h"
#include "model/weights.h"
#include "monitoring/metrics/http_probe.h"
#include "monitoring/metrics/start_probe.h"
#include "monitoring/metrics/worker_probe.h"
#include "worker/worker.h"

namespace pregate::cli {
namespace {

constexpr auto kSignalPoll = std::chrono::milliseconds(50);

/// Binds what a worker tells about itself to the metrics.
class WorkerMetrics final : public worker::Probe {
 public:
  explicit WorkerMetrics(monitoring::Registry& registry)
      : metrics_(registry), http_(registry), start_(registry, kVersion) {}

  void batch_computed(size_t, size_t rows, Duration compute) override {
    metrics_.computed(rows, compute);
  }
  void queue_depth(size_t requests) override { metrics_.set_queue_depth(requests); }
  void loaded(size_t, size_t bytes, Duration took) override {
    metrics_.set_expert_bytes(bytes);
    start_.phase_finished("experts", took);
    loaded_ = true;
  }
  bool has_loaded() const { return loaded_; }
  monitoring::HttpProbe* http() const { return &http_; }

 private:
  monitoring::WorkerProbe metrics_;
  mutable monitoring::HttpProbe http_;  // thread-safe
  monitoring::StartProbe start_;
  std::atomic<bool> loaded_{false};
};

/// /health and /metrics of this worker.
coordinator::StatusServer make_status_server(const WorkerOptions& options, uint32_t rank,
                                             monitoring::Registry& registry,
                                             const WorkerMetrics& metrics) {
  coordinator::HttpServerOptions http;
  http.address = options.host;
  const size_t first = options.metrics.metrics_port;
  http.port = static_cast<uint16_t>(first == 0 ? 0 : first + rank - 1);
  return {http,
          {.readiness =
               [&metrics] {
                 const bool ready = metrics.has_loaded();
                 return coordinator::Readiness{ready, ready ? "ready" : "loading experts"};
               },
           .scrape = [&registry] { return registry.scrape(); },
           .version = kVersion},
          metrics.http()};
}

// Runs the worker until the coordinator dismisses it. After a first signal it goes on for as long
// as the coordinator may still need it; after a second one it ends at once.
int run_until_dismissed(worker::Worker& worker, Signals& signals, Duration drain_timeout) {
  auto running = std::async(std::launch::async, [&] { return worker.run(); });
  std::optional<TimePoint> leave_at;
  while (running.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    if (signals.wait(kSignalPoll)) {
      if (leave_at) worker.stop();
      leave_at = system_clock().now() + drain_timeout;
      spdlog::info("stopping when the coordinator says so, in {:.1f} s at the latest",
                   to_seconds(drain_timeout));
    }
    if (leave_at && system_clock().now() > *leave_at) worker.stop();
  }
  return running.get();
}

}  // namespace

Status work_for_coordinator(const WorkerOptions& options, transport::Transport& transport,
                            Signals& signals) {
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.model.model));
  PREGATE_ASSIGN(const uint64_t fingerprint, model::fingerprint(*checkpoint));
  const size_t num_threads = thread_count(options.model.num_threads);
  ThreadPool threads(num_threads);
  PREGATE_ASSIGN(const auto backend, compute::make_backend(options.model.backend, threads));

  monitoring::Registry registry;
  WorkerMetrics metrics(registry);
  coordinator::StatusServer status =
      make_status_server(options, transport.self().value, registry, metrics);
  PREGATE_ASSIGN(const uint16_t port, status.start());
  spdlog::info("metrics on http://{}:{}/metrics", options.host, port);

  const auto load = [&](LayerIdx layer, ExpertId expert, compute::WeightFormat format) {
    return model::load_expert(*checkpoint, layer, expert, *backend, format);
  };
  worker::WorkerOptions worker_options{.model_fingerprint = fingerprint,
                                       .num_threads = num_threads};
  worker_options.heartbeat.interval = options.cluster.heartbeat_interval;
  worker::Worker worker(transport, *backend, load, worker_options, metrics);
  const int code = run_until_dismissed(worker, signals, options.drain_timeout);
  status.stop(std::chrono::milliseconds(100));
  if (code != 0) return fail(ErrorCode::kUnavailable, "the worker ended after an error");
  return {};
}

Status run_worker(const WorkerOptions& options) {
  return run_in_mpi(options.general.log_level, "pregate worker",
                    [&](transport::Transport& transport, Signals& signals) -> Status {
                      if (transport.self() == transport::PeerId(0)) {
                        return fail(ErrorCode::kInvalidArgument,
                                    "rank 0 must be the coordinator: put `pregate coordinator` "
                                    "first, or use `mpirun -n N pregate serve`");
                      }
                      return work_for_coordinator(options, transport, signals);
                    });
}

}  // namespace pregate::cli
