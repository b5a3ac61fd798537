// A process that owns experts. It knows weights and token batches, nothing of requests: it may be
// killed at any moment, and another one that holds the same experts can answer in its place.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>

#include "worker/experts/loader.h"
#include "worker/experts/store.h"
#include "worker/probe.h"
#include "worker/serving/batch.h"
#include "worker/serving/request_queue.h"
#include "worker/session/session.h"
#include "worker/wakeup.h"

namespace pregate::worker {

struct WorkerOptions {
  SessionOptions session;
  size_t max_queued_requests = 256;
};

/// What a worker is made of. All that is referred to outlives it.
struct WorkerParts {
  transport::Transport& transport;  ///< Must not call back from within a call but drive().
  compute::Backend& backend;        ///< For serve_next() only.
  ReadExpert read_expert;           ///< For load_next() only.
  const Clock& clock;
  Random& random;  ///< For the incarnation and the pauses between dialling; the worker's alone.
  Probe& probe;
  /// Null: experts are in memory. Else `read_expert` is ExpertOnDisk's, serve_next() gets the
  /// experts from here, and waits for those that are not in memory.
  ExpertCache* cache = nullptr;
  size_t num_layers = 1;  ///< Of the model, for the cache.
  /// The back end's, if the transport takes payloads from there and puts them there (NCCL).
  std::shared_ptr<DeviceMemory> device_memory = nullptr;
};

/// run() is the process: four threads, of which the transport's receives, one beats the heart, one
/// loads experts, and the caller's computes, and receives while it waits. Or, without threads:
/// start(), then tick(), load_next() and serve_next() at the times they ask for and after each
/// event of the transport, until is_over(), then finish(). None of these steps waits or looks at
/// another clock.
class Worker {
 public:
  Worker(WorkerParts parts, WorkerOptions options);

  /// Serves until the coordinator says goodbye, is gone for good or stop(), and stops the
  /// transport. Returns the exit status of the process: 0, or 1 after an error, which was logged.
  /// Call once; see Transport::needs_hard_exit() for how to leave.
  int run();
  /// Makes run() return soon. Thread-safe.
  void stop();
  /// Asks the coordinator to take the experts over, so that it says goodbye when they are not
  /// needed here any more. Thread-safe; the caller bounds the time.
  void drain();

  enum class Stage { kJoining, kLoading, kReady };
  /// Ready: joined, and all that was assigned is held. Thread-safe.
  Stage stage() const;

  // The steps. Each may be called by one thread at a time.

  /// Starts the transport and dials.
  void start();
  /// Heartbeats, reports and deadlines. Returns when to call it again at the latest; call it also
  /// after load_next() and when the transport told something.
  TimePoint tick();
  /// Drops or loads an expert if one is due. Returns when to call it again; TimePoint::max if not
  /// before the coordinator assigned something else.
  TimePoint load_next();
  /// Computes one batch of what waits. False if nothing did.
  bool serve_next();
  bool is_over() const { return over_; }
  /// Says goodbye and stops the transport. Returns the exit status.
  int finish();

 private:
  std::vector<PendingRequest> wait_for_requests();
  bool serve(std::vector<PendingRequest> requests);
  transport::Events events();
  void receive(std::span<const std::byte> header, transport::Payload payload);
  Status handle(std::span<const std::byte> header, transport::Payload payload);
  Status accept_assignment(std::span<const std::byte> header, const transport::Payload& payload);
  Status accept_plan(std::span<const std::byte> header, const transport::Payload& payload);
  Status accept_request(std::span<const std::byte> header, transport::Payload payload);
  void end(const Ending& ending);

  transport::Transport& transport_;
  const Clock& clock_;
  Probe& probe_;
  const WorkerOptions options_;
  ExpertStore store_;
  ExpertLoader loader_;
  RequestQueue queue_;
  const std::unique_ptr<PlannedCache> cache_;  // null: experts are in memory
  BatchServer server_;
  Session session_;

  std::atomic<bool> over_{false};
  std::atomic<bool> failed_{false};
  std::atomic<bool> peers_lost_{false};
  Wakeup tick_wakeup_, load_wakeup_;
};

}  // namespace pregate::worker
