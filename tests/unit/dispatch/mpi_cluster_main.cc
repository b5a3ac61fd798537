// A coordinator and two workers as ranks of an MPI job, with fake experts:
//   mpi_cluster serve   batches of many sizes, compared with one process; an orderly end
//   mpi_cluster kill    worker 2 is killed in the middle of a request
//   mpi_cluster time    round trips, for people
// Each rank that reaches its end as it should prints "ok MODE rank R"; run_mpi.sh counts them.
#include <csignal>
#include <cstdio>

#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/dispatch/test_cluster.h"
#include "transport/mpi/mpi.h"

namespace pregate::testing {
namespace {

using coordinator::Cluster;
using coordinator::RemoteExperts;

int run_worker(transport::Transport& mpi, const std::string& mode) {
  FakeBackend backend;
  worker::Probe probe;
  Random random(mpi.self().value);
  const auto read = [](LayerIdx layer, ExpertId expert) {
    return load_fake(layer, expert, kHidden);
  };
  worker::Worker node(worker::WorkerParts{mpi, backend, read, system_clock(), random, probe},
                      {.session = test_session(mpi.self().value)});
  constexpr size_t kFatalRows = 77;
  backend.before_experts = [&](size_t rows) {
    if (mode == "kill" && mpi.self() == transport::PeerId(2) && rows >= kFatalRows) {
      ::kill(::getpid(), SIGKILL);
    }
  };
  return node.run();
}

Status compare(RemoteExperts& experts) {
  for (size_t num_rows = 1; num_rows < 5000; num_rows = num_rows * 3 + 1) {
    const TestBatch batch(num_rows, num_rows, 5, LayerIdx(num_rows % kNumLayers));
    PREGATE_ASSIGN(const auto result, compute_remotely(experts, batch));
    if (result != batch.expected()) {
      return fail(ErrorCode::kInternal, "{} rows: not what one process computes", num_rows);
    }
  }
  return {};
}

/// The other worker loads what the killed one held, in time, and answers.
Status expect_recovery(Cluster& cluster, RemoteExperts& experts) {
  const TestBatch fatal(1, 400, 8, LayerIdx(0));
  const TimePoint begin = system_clock().now();
  PREGATE_ASSIGN(const auto result, compute_remotely(experts, fatal));
  const double seconds = to_seconds(system_clock().now() - begin);
  std::printf("recovered after %.2f s\n", seconds);
  if (result != fatal.expected()) return fail(ErrorCode::kInternal, "not the expected rows");
  if (seconds > 2.0) return fail(ErrorCode::kInternal, "too late");
  PREGATE_TRY(compare(experts));
  return cluster.health();
}

Status time_round_trips(RemoteExperts& experts) {
  for (const size_t num_rows : {1, 32, 512}) {
    const TestBatch batch(1, num_rows, 8, LayerIdx(0));
    std::vector<double> micros;
    for (int i = 0; i < 200; ++i) {
      const TimePoint begin = system_clock().now();
      PREGATE_TRY(compute_remotely(experts, batch));
      micros.push_back(to_seconds(system_clock().now() - begin) * 1e6);
    }
    std::sort(micros.begin(), micros.end());
    std::printf("%4zu rows: p50 %.0f us, p90 %.0f us, p99 %.0f us\n", num_rows, micros[100],
                micros[180], micros[198]);
  }
  const auto cpu_seconds = [] {
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
    return double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
  };
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::seconds(5));
  std::printf("idle: %.2f %% of a core\n", (cpu_seconds() - before) / 5 * 100);
  return {};
}

Status run_coordinator(transport::Transport& mpi, const std::string& mode) {
  coordinator::ClusterOptions options;
  options.shape = test_shape();
  options.model_fingerprint = kFingerprint;
  options.weight_format = compute::WeightFormat::kF32;
  options.min_workers = 2;
  options.balancer.first_settle = {};
  CountingProbe probe;
  Cluster cluster(mpi, system_clock(), options, probe);
  const std::atomic<bool> give_up{false};
  cluster.start();
  const Ticker ticker(std::chrono::milliseconds(20), [&] { cluster.tick(); });
  PREGATE_TRY(cluster.wait_until_whole(
      std::chrono::seconds(20), [](const auto&) {}, give_up));
  Status status;
  {
    coordinator::ThreadWaiter waiter(mpi);
    FakeBackend backend;
    RemoteExperts experts({cluster, system_clock(), waiter, backend, probe},
                          {.homeless_grace = std::chrono::seconds(20), .reproducible = true});
    status = mode == "kill"   ? expect_recovery(cluster, experts)
             : mode == "time" ? time_round_trips(experts)
                              : compare(experts);
  }
  cluster.stop();
  return status;
}

int run(const std::string& mode) {
  auto mpi = transport::make_mpi_transport({});
  if (!mpi) {
    std::fprintf(stderr, "%s\n", mpi.error().message.c_str());
    return 1;
  }
  const uint32_t rank = (*mpi)->self().value;
  int exit_status = 0;
  if (rank == 0) {
    const Status status = run_coordinator(**mpi, mode);
    if (!status) std::fprintf(stderr, "%s\n", status.error().message.c_str());
    exit_status = status ? 0 : 1;
  } else {
    exit_status = run_worker(**mpi, mode);
  }
  if (exit_status == 0) std::printf("ok %s rank %u\n", mode.c_str(), rank);
  std::fflush(nullptr);
  if ((*mpi)->needs_hard_exit()) ::_exit(exit_status);
  return exit_status;
}

}  // namespace
}  // namespace pregate::testing

int main(int argc, char** argv) { return pregate::testing::run(argc > 1 ? argv[1] : ""); }
