// A process that owns experts. It knows weights and token batches, nothing of requests: it may be
// killed at any moment, and another one that holds the same experts can answer in its place.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>

#include "protocol/codec.h"
#include "worker/experts/store.h"
#include "worker/heartbeat/heartbeat.h"
#include "worker/probe.h"
#include "worker/serving/batch.h"
#include "worker/serving/request_queue.h"

namespace pregate::worker {

struct WorkerOptions {
  transport::PeerId coordinator{0};
  uint64_t model_fingerprint = 0;  ///< Of this worker's checkpoint.
  size_t num_threads = 1;          ///< Of the back end, for the coordinator to know.
  size_t max_queued_requests = 256;
  HeartbeatOptions heartbeat;
};

/// Three threads: the transport's receives, the one in run() loads and computes, a third sends
/// heartbeats.
class Worker {
 public:
  /// All references outlive the worker.
  Worker(transport::Transport& transport, compute::Backend& backend, ExpertLoader loader,
         WorkerOptions options, Probe& probe);

  /// Starts the transport, serves until the coordinator says goodbye or is gone, or stop(), and
  /// stops the transport. Returns the exit status of the process: 0, or 1 after an error, which
  /// was logged. Call once; see Transport::needs_hard_exit() for how to leave.
  int run();

  /// Makes run() return soon. Thread-safe.
  void stop();

 private:
  void receive(std::span<const std::byte> header, transport::Payload payload);
  Status handle(std::span<const std::byte> header, transport::Payload payload);
  Status accept_request(std::span<const std::byte> header, transport::Payload payload);
  void coordinator_lost(const std::string& reason);
  std::optional<protocol::AssignExperts> take_assignment();
  void load(const protocol::AssignExperts& assignment);
  Status load_experts(const protocol::AssignExperts& assignment);
  double measure_rows_per_second();
  void send(const protocol::Bytes& header, transport::Payload payload = {});
  transport::Hello hello() const;
  transport::Events events();
  void leave();

  transport::Transport& transport_;
  compute::Backend& backend_;
  const WorkerOptions options_;
  Probe& probe_;
  const Clock& clock_ = system_clock();
  ExpertStore store_;  // run()'s thread only
  RequestQueue queue_;
  std::optional<Heartbeat> heartbeat_;
  uint64_t num_beats_ = 0;  // heartbeat thread only

  std::atomic<bool> stopping_{false};
  std::atomic<bool> peers_lost_{false};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::optional<protocol::AssignExperts> assignment_;  // guarded by mutex_; the latest wins
};

}  // namespace pregate::worker
