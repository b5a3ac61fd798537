// The thread that runs the engine: admits requests, plans steps, samples, streams.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "coordinator/scheduling/batch_planner.h"
#include "coordinator/scheduling/expert_preview.h"
#include "coordinator/scheduling/generation.h"
#include "coordinator/scheduling/sequence.h"
#include "engine/engine.h"
#include "monitoring/metrics/serving_probe.h"

namespace pregate::coordinator {

struct SchedulerOptions {
  BatchLimits limits;
  BatchPolicyOptions policy;  ///< One that reads experts needs a router that can be asked before.
  size_t num_kv_blocks = 0;
  bool prefix_caching = true;
  size_t max_queue = 256;  ///< Requests that wait for their first step; more are refused.
  uint64_t seed = 0;       ///< For requests that bring none.
  /// How long a sequence may wait for experts that nobody holds.
  Duration expert_wait = std::chrono::seconds(60);
};

class Scheduler final : public GenerationService {
 public:
  /// Engine, threads (the engine's, which it leaves idle while its logits are read) and probe must
  /// outlive it. `available` says whether requests can be computed now; its
  /// error is what submit() answers when they cannot. Called on any thread.
  Scheduler(engine::Engine& engine, ThreadPool& threads, TextRules rules, SchedulerOptions options,
            monitoring::ServingProbe& probe, std::function<Status()> available);
  ~Scheduler() override;

  Result<RequestId> submit(GenerationRequest request, GenerationListener listener) override;
  void cancel(RequestId id) override;

  /// Ends what still runs (kAborted) and the thread; later requests are refused.
  void stop();

  size_t num_unfinished() const { return num_unfinished_.load(); }

 private:
  void run(const std::stop_token& stop);
  bool take_inbox(const std::stop_token& stop);
  void start_request(std::shared_ptr<ActiveRequest> request);
  void run_step();
  void look_for_homes();
  void look_at_experts();
  Result<std::vector<engine::SetAside>> compute(const std::vector<Slice>& step);
  void take_logits(const std::vector<Slice>& step, std::span<const engine::LogitRow> rows);
  void put_aside(std::vector<Slice>& step, const std::vector<engine::SetAside>& set_aside);
  void deliver(const std::vector<Slice>& step, TimePoint started);
  void note_token(Sequence& sequence, TimePoint now);
  void remove_finished();
  void close_choice(const Sequence& sequence, monitoring::Finish finish);
  void fail_step(const std::vector<Slice>& step, const Error& error);
  void fail_request(ActiveRequest& request, const Error& error);
  void remove_failed();
  void drop_cancelled();
  void report_state();
  Status check(const GenerationRequest& request) const;

  // Constant after construction.
  engine::Engine& engine_;
  ThreadPool& threads_;
  const TextRules rules_;
  const SchedulerOptions options_;
  monitoring::ServingProbe& probe_;
  const std::function<Status()> available_;

  // Shared.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<ActiveRequest>> submitted_;  // guarded by mutex_
  std::vector<RequestId> cancelled_;                       // guarded by mutex_
  uint64_t last_id_ = 0;                                   // guarded by mutex_
  size_t num_queued_ = 0;  // guarded by mutex_: choices submitted or waiting, not yet in a step
  bool homes_changed_ = false;             // guarded by mutex_: missing experts may be held again
  std::atomic<size_t> num_unfinished_{0};  // requests

  // The scheduler thread's own.
  engine::BlockPool pool_;
  BatchPlanner planner_;
  std::optional<ExpertPreview> preview_;  // if the policy reads experts
  std::vector<RequestId> to_cancel_;
  bool idle_ = true;  // there is nothing to compute, for all that is known

  std::jthread thread_;
};

}  // namespace pregate::coordinator
