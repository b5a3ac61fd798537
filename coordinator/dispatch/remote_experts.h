// Experts on workers, as an engine sees them.
#pragma once

#include <unordered_map>

#include "compute/backend.h"
#include "coordinator/dispatch/cluster.h"
#include "engine/expert_client.h"

namespace pregate::coordinator {

struct DispatchOptions {
  /// Time a worker has for a batch: a fixed part for the network and the queue, and so much per
  /// row. A worker that is dead is noticed earlier, by its silence.
  Duration timeout = std::chrono::seconds(10);
  Duration timeout_per_row = std::chrono::milliseconds(20);
  /// Have workers send the result of each (row, expert) and add them here in the order of experts:
  /// the same bits whatever the placement, for top_k times the bytes. Otherwise a worker adds what
  /// it holds, and the sums are added here in the order of worker ids.
  bool reproducible = false;
};

/// The rows of a batch that one worker gets.
struct WorkerShare {
  WorkerId worker;
  std::vector<uint32_t> batch_rows;  ///< Of each row sent: its place in the batch. Ascending.
  protocol::ExpertTable table;       ///< Its rows are indices into `batch_rows`.
};

/// Sorts a batch by worker. `worker_of` names the worker to use for an expert of the layer, or the
/// error to return. Shares are in ascending order of worker.
Result<std::vector<WorkerShare>> split_batch(
    const engine::ExpertBatch& batch, const std::function<Result<WorkerId>(ExpertId)>& worker_of);

/// One per engine.
class RemoteExperts final : public engine::ExpertClient, private WorkerListener {
 public:
  /// References outlive it.
  RemoteExperts(Cluster& cluster, const DispatchOptions& options, DispatchProbe& probe);
  ~RemoteExperts() override;

  Result<engine::DispatchTicket> dispatch(const engine::ExpertBatch& batch) override;
  Status combine(engine::DispatchTicket ticket, compute::Matrix<float> out) override;

 private:
  struct Part {
    WorkerShare share;
    RequestId request;
    TimePoint sent;
    bool answered = false;
    transport::Payload results;  // f32 [rows of the answer, cols]
  };
  /// A batch between dispatch() and combine().
  struct Call {
    LayerIdx layer;
    size_t num_rows = 0;
    size_t cols = 0;
    TimePoint begin, deadline;
    std::vector<Part> parts;  // guarded by mutex_ until all are answered
    std::atomic<size_t> num_waiting{0};
    std::atomic<bool> failed{false};
    Status status;  // guarded by mutex_; the first error
  };

  bool on_reply(WorkerId worker, const protocol::ExpertReply& reply,
                const transport::Payload& payload) override;
  void on_lost(WorkerId worker, const Error& error) override;

  Result<WorkerId> choose_worker(LayerIdx layer, ExpertId expert) const;
  Status send_parts(Call& call, const engine::ExpertBatch& batch);
  protocol::ExpertRequest make_request(const Part& part, const engine::ExpertBatch& batch) const;
  void fail_locked(Call& call, const Error& error);
  Status wait(Call& call);
  void forget(engine::DispatchTicket ticket);
  void add_sums(const Call& call, compute::Matrix<float> out) const;
  void add_in_expert_order(const Call& call, compute::Matrix<float> out) const;

  Cluster& cluster_;
  const DispatchOptions options_;
  DispatchProbe& probe_;
  engine::DispatchTicket next_ticket_ = 1;  // engine's thread

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<engine::DispatchTicket, std::unique_ptr<Call>> calls_;  // guarded by mutex_
  std::unordered_map<RequestId, std::pair<Call*, size_t>> waiting_;          // guarded by mutex_
};

}  // namespace pregate::coordinator
