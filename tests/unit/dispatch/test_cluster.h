// A coordinator and its workers in one process, over inproc.
#pragma once

#include <algorithm>
#include <thread>

#include "base/random.h"
#include "base/ticker.h"
#include "coordinator/dispatch/remote_experts.h"
#include "tests/unit/worker/fake_backend.h"
#include "transport/inproc/hub.h"
#include "worker/worker.h"

namespace pregate::testing {

inline constexpr size_t kHidden = 96;
inline constexpr uint32_t kNumExperts = 13;
inline constexpr uint32_t kNumLayers = 3;
inline constexpr uint64_t kFingerprint = 0xABCDEF;

inline coordinator::PlacementShape test_shape() {
  return {{LayerIdx(0), LayerIdx(1), LayerIdx(2)}, kNumExperts};
}

/// For a worker with fake experts that knows no secret.
inline worker::SessionOptions test_session(uint32_t id) {
  worker::SessionOptions session;
  session.name = fmt::format("worker-{}", id);
  session.model_fingerprint = kFingerprint;
  session.weight_format = compute::WeightFormat::kF32;
  session.capacity = {.rows_per_second = 1000,
                      .memory_bytes = 1 << 20,
                      .expert_bytes = 1000,
                      .threads = 1,
                      .backend = "fake"};
  return session;
}

/// One worker with its own back end and thread.
struct TestWorker {
  FakeBackend backend;
  worker::Probe probe;
  Random random{1};
  std::unique_ptr<transport::Transport> transport;
  std::unique_ptr<worker::Worker> worker;
  std::thread thread;
  int exit_status = -1;

  void start() {
    thread = std::thread([this] { exit_status = worker->run(); });
  }
  void join() {
    if (thread.joinable()) thread.join();
  }
};

/// Counts what it is told.
class CountingProbe final : public coordinator::DispatchProbe, public coordinator::ClusterProbe {
 public:
  void late_reply(WorkerId) override { ++num_late; }
  void batch_combined(LayerIdx, size_t, Duration) override { ++num_combined; }
  void expert_tokens(LayerIdx, ExpertId, size_t rows) override { num_tokens += rows; }
  void batch_resent(coordinator::ResendReason reason) override {
    ++num_resent;
    last_reason = reason;
  }
  void join_refused(coordinator::JoinRefusal refusal) override {
    ++num_refused;
    last_refusal = refusal;
  }
  void experts_unanswered(size_t experts) override { num_unanswered = experts; }
  std::atomic<size_t> num_unanswered{0};
  std::atomic<size_t> num_late{0}, num_combined{0}, num_tokens{0}, num_resent{0}, num_refused{0};
  std::atomic<coordinator::ResendReason> last_reason{};
  std::atomic<coordinator::JoinRefusal> last_refusal{};
};

class TestCluster {
 public:
  explicit TestCluster(uint32_t num_workers) {
    coordinator_transport = hub.attach(transport::PeerId(0));
    options.model = "test";
    options.model_fingerprint = kFingerprint;
    options.weight_format = compute::WeightFormat::kF32;
    options.shape = test_shape();
    options.min_workers = num_workers;
    options.balancer.first_settle = {};
    options.goodbye_timeout = std::chrono::seconds(1);
    for (uint32_t id = 1; id <= num_workers; ++id) add_worker(id);
  }
  ~TestCluster() {
    experts.reset();
    ticker.reset();
    cluster.reset();
    for (const auto& node : workers) {
      if (node->worker) node->worker->stop();
      node->join();
    }
  }

  void add_worker(uint32_t id) {
    workers.push_back(std::make_unique<TestWorker>());
    workers.back()->transport = hub.attach(transport::PeerId(id));
  }

  void start_worker(size_t index) {
    TestWorker& node = *workers[index];
    worker::WorkerOptions worker_options{.session = test_session(static_cast<uint32_t>(index + 1))};
    worker_options.session.max_silence = max_silence_of_workers;
    if (change_session) change_session(worker_options.session);
    const auto read = [this](LayerIdx layer,
                             ExpertId expert) -> Result<std::unique_ptr<compute::PackedExpert>> {
      if (load_hook) PREGATE_TRY(load_hook(layer, expert));
      return load_fake(layer, expert, kHidden);
    };
    node.worker = std::make_unique<worker::Worker>(
        worker::WorkerParts{*node.transport, node.backend, read, system_clock(), node.random,
                            node.probe},
        worker_options);
    node.start();
  }

  Status start(const coordinator::DispatchOptions& dispatch = {}) {
    for (size_t i = 0; i < workers.size(); ++i) start_worker(i);
    return start_coordinator(dispatch);
  }

  Status start_coordinator(const coordinator::DispatchOptions& dispatch = {}) {
    start_listening();
    return wait_until_whole(dispatch);
  }

  void start_listening() {
    cluster = std::make_unique<coordinator::Cluster>(*coordinator_transport, system_clock(),
                                                     options, probe);
    cluster->start();
    ticker.emplace(std::chrono::milliseconds(20), [this] { cluster->tick(); });
  }

  Status wait_until_whole(const coordinator::DispatchOptions& dispatch = {}) {
    PREGATE_TRY(cluster->wait_until_whole(
        start_timeout, [](const auto&) {}, give_up));
    waiter.emplace(*coordinator_transport);
    experts = std::make_unique<coordinator::RemoteExperts>(
        coordinator::DispatchParts{*cluster, system_clock(), *waiter, backend, probe}, dispatch);
    return {};
  }

  coordinator::WorkerState state_of(uint32_t id) const {
    for (const auto& info : cluster->info().workers) {
      if (info.member.id == WorkerId(id)) return info.member.state;
    }
    return coordinator::WorkerState::kDead;
  }
  void wait_for(uint32_t id, coordinator::WorkerState state) const {
    while (state_of(id) != state) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  void wait_until_each_holds(size_t num_experts) const {
    const auto holds = [&](const auto& info) { return info.num_held == num_experts; };
    while (!std::ranges::all_of(cluster->info().workers, holds)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  transport::InprocHub hub;
  coordinator::ClusterOptions options;
  CountingProbe probe;
  FakeBackend backend;
  std::optional<coordinator::ThreadWaiter> waiter;
  Duration start_timeout = std::chrono::seconds(20);
  Duration max_silence_of_workers = std::chrono::seconds(10);
  std::function<void(worker::SessionOptions&)> change_session;
  std::function<Status(LayerIdx, ExpertId)> load_hook;
  std::unique_ptr<transport::Transport> coordinator_transport;
  std::vector<std::unique_ptr<TestWorker>> workers;
  std::unique_ptr<coordinator::Cluster> cluster;
  std::optional<Ticker> ticker;
  std::unique_ptr<coordinator::RemoteExperts> experts;
  std::atomic<bool> give_up{false};
};

/// Random rows, and distinct random experts for each.
struct TestBatch {
  TestBatch(uint64_t seed, size_t num_rows, size_t top_k_, LayerIdx layer_)
      : layer(layer_), top_k(top_k_), rows(num_rows * kHidden) {
    Random random(seed);
    for (float& value : rows) value = static_cast<float>(random.next_normal());
    for (size_t row = 0; row < num_rows; ++row) {
      std::vector<ExpertId> all;
      for (uint32_t expert = 0; expert < kNumExperts; ++expert) all.push_back(ExpertId(expert));
      for (size_t k = 0; k < top_k; ++k) {
        std::swap(all[k], all[k + random.next_below(kNumExperts - k)]);
        expert_ids.push_back(all[k]);
        gates.push_back(static_cast<float>(random.next_double()));
      }
    }
  }

  engine::ExpertBatch view() const { return {1, layer, encoded(), top_k, expert_ids, gates}; }
  compute::EncodedRows encoded() const {
    return {compute::WeightFormat::kF32, num_rows(), kHidden,
            reinterpret_cast<const std::byte*>(rows.data())};
  }
  size_t num_rows() const { return rows.size() / kHidden; }

  /// What one process gives that adds in ascending order of experts.
  std::vector<float> expected() const {
    FakeBackend backend;
    std::vector<std::unique_ptr<FakeExpert>> experts;
    std::vector<std::vector<uint32_t>> rows_of(kNumExperts);
    std::vector<std::vector<float>> gates_of(kNumExperts);
    for (size_t i = 0; i < expert_ids.size(); ++i) {
      rows_of[expert_ids[i].value].push_back(static_cast<uint32_t>(i / top_k));
      gates_of[expert_ids[i].value].push_back(gates[i]);
    }
    std::vector<compute::ExpertTask> tasks;
    for (uint32_t id = 0; id < kNumExperts; ++id) {
      experts.push_back(std::make_unique<FakeExpert>(layer, ExpertId(id), kHidden));
      tasks.push_back({experts.back().get(), rows_of[id], rows_of[id], gates_of[id]});
    }
    std::vector<float> out(rows.size());
    backend.experts(encoded(), tasks, {out.data(), num_rows(), kHidden});
    return out;
  }

  LayerIdx layer;
  size_t top_k;
  std::vector<float> rows;
  std::vector<ExpertId> expert_ids;
  std::vector<float> gates;
};

inline Result<std::vector<float>> compute_remotely(engine::ExpertClient& experts,
                                                   const TestBatch& batch) {
  PREGATE_ASSIGN(const auto ticket, experts.dispatch(batch.view()));
  std::vector<float> out(batch.rows.size());
  PREGATE_ASSIGN(const auto homeless,
                 experts.combine(ticket, {out.data(), batch.num_rows(), kHidden}));
  if (homeless.empty()) return out;
  return fail(ErrorCode::kUnavailable, "{} entries without a home", homeless.size());
}

}  // namespace pregate::testing
