// What a dispatch and its combine cost over the least that UCX needs to carry the same bytes: rows
// of 2048 numbers go to a worker in bf16 and come back in f32. The worker's experts compute nothing
// but the wider numbers, so what is timed is the path: splitting, messages, threads, adding. Both
// by turns in one run, because other work on the machine changes from minute to minute.
//   dispatch_bench [ROUNDS]
#include <bit>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "base/ticker.h"
#include "bench/transport/raw_echo.h"
#include "coordinator/dispatch/remote_experts.h"
#include "tests/unit/worker/fake_backend.h"
#include "transport/ucx/ucx.h"
#include "worker/worker.h"

namespace pregate {
namespace {

using transport::kHidden;
using transport::kMaxRows;
using transport::there_bytes;
const protocol::Secret kSecret("a secret of the bench");

class WideningBackend final : public testing::FakeBackend {
 public:
  void experts(const compute::EncodedRows& x, std::span<const compute::ExpertTask> tasks,
               compute::Matrix<float> out) override {
    const auto* rows = reinterpret_cast<const uint16_t*>(x.data);
    for (const compute::ExpertTask& task : tasks) {
      for (size_t i = 0; i < task.rows.size(); ++i) {
        const uint16_t* in = rows + task.rows[i] * x.cols;
        const auto to = out.row(task.out_rows[i]);
        for (size_t j = 0; j < x.cols; ++j) to[j] = std::bit_cast<float>(uint32_t{in[j]} << 16);
      }
    }
  }
};

/// The coordinator's half on the caller's thread and the transport's, a worker on its own four.
class OurPath {
 public:
  OurPath() {
    coordinator::ClusterOptions options;
    options.model = "bench";
    options.shape = {{LayerIdx(0)}, 1};
    options.secret = kSecret;
    options.balancer.first_settle = {};
    listening_ = transport::make_ucx_transport({.listen = "127.0.0.1:0"}).value();
    cluster_.emplace(*listening_, system_clock(), options, cluster_probe_);
    cluster_->start();
    ticker_.emplace(std::chrono::milliseconds(20), [this] { cluster_->tick(); });
    start_worker();
    const std::atomic<bool> give_up{false};
    const auto quietly = [](const coordinator::ClusterInfo&) {};
    const Status whole = cluster_->wait_until_whole(std::chrono::seconds(20), quietly, give_up);
    PREGATE_CHECK(whole.has_value());
    waiter_.emplace(*listening_);
    experts_.emplace(
        coordinator::DispatchParts{*cluster_, system_clock(), *waiter_, *own_backend_, probe_},
        coordinator::DispatchOptions{});
  }
  ~OurPath() {
    experts_.reset();
    ticker_.reset();
    cluster_->stop();
    thread_.join();
  }

  void echo(size_t rows) {
    const engine::ExpertBatch batch{
        .step = ++step_,
        .layer = LayerIdx(0),
        .rows = {compute::WeightFormat::kBf16, rows, kHidden, rows_.data()},
        .top_k = 1,
        .expert_ids = std::span(expert_ids_).first(rows),
        .gates = std::span(gates_).first(rows)};
    const auto ticket = experts_->dispatch(batch);
    PREGATE_CHECK(ticket.has_value());
    PREGATE_CHECK(experts_->combine(*ticket, {out_.data(), rows, kHidden}).has_value());
  }

 private:
  void start_worker() {
    dialling_ = transport::make_ucx_transport(
                    {.self = transport::PeerId(1),
                     .addresses = {{transport::PeerId(0), listening_->listen_address()}}})
                    .value();
    worker::WorkerOptions options;
    options.session.secret = kSecret;
    options.session.weight_format = compute::WeightFormat::kBf16;
    options.session.capacity = {.rows_per_second = 1000,
                                .memory_bytes = 1 << 20,
                                .expert_bytes = 1000,
                                .threads = 1,
                                .backend = "bench"};
    const auto read = [](LayerIdx layer, ExpertId expert) {
      return testing::load_fake(layer, expert, kHidden);
    };
    worker_.emplace(
        worker::WorkerParts{*dialling_, backend_, read, system_clock(), random_, worker_probe_},
        options);
    thread_ = std::thread([this] { worker_->run(); });
  }

  std::unique_ptr<transport::UcxTransport> listening_, dialling_;
  WideningBackend backend_;  // the worker's
  ThreadPool threads_{1};
  std::unique_ptr<compute::Backend> own_backend_ = compute::make_backend("cpu", threads_).value();
  Random random_{1};
  worker::Probe worker_probe_;
  coordinator::ClusterProbe cluster_probe_;
  coordinator::DispatchProbe probe_;
  std::optional<coordinator::ThreadWaiter> waiter_;
  std::optional<coordinator::Cluster> cluster_;
  std::optional<Ticker> ticker_;
  std::optional<worker::Worker> worker_;
  std::thread thread_;
  std::optional<coordinator::RemoteExperts> experts_;

  uint64_t step_ = 0;
  const std::vector<std::byte> rows_ = std::vector<std::byte>(there_bytes(kMaxRows));
  const std::vector<ExpertId> expert_ids_ = std::vector<ExpertId>(kMaxRows, ExpertId(0));
  const std::vector<float> gates_ = std::vector<float>(kMaxRows, 1.0f);
  std::vector<float> out_ = std::vector<float>(kMaxRows * kHidden);
};

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  return pregate::transport::main_of_comparison<pregate::OurPath>(argc, argv);
}
