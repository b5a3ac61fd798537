// A served model: HTTP API, scheduler and engine, from the first health check to the last answer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "cli/coordinator.h"
#include "cli/experts_hooks.h"
#include "cli/live_view.h"
#include "cli/signals.h"
#include "coordinator/api/api_server.h"
#include "coordinator/scheduling/scheduler.h"
#include "model/chat/chat_template.h"
#include "model/tokenizer/tokenizer.h"
#include "monitoring/metrics/dispatch_probe.h"
#include "monitoring/metrics/registry.h"
#include "monitoring/metrics/serving_probe.h"
#include "monitoring/metrics/start_probe.h"

namespace pregate::cli {

struct ServiceOptions {
  ModelOptions model;
  BatchingOptions batching;
  HttpOptions http;
  AdminOptions admin;
  router::LookaheadOptions lookahead;
  Duration expert_wait;    ///< See DispatchOptions.
  std::string workers_as;  ///< For the log: where the experts are.
  /// Called before the process ends at once, without its destructors.
  std::function<void()> before_hard_exit = [] {};
};

/// `workers_as`: see above.
ServiceOptions service_options(const CoordinatorOptions& options, std::string workers_as);

class Service {
 public:
  Service(ServiceOptions options, monitoring::Registry& registry);

  /// Listens, loads the model, serves until SIGINT or SIGTERM, and ends what runs (bounded by
  /// --drain-timeout). A signal while loading, or a second one, ends the process at once. `experts`
  /// must outlive the service.
  Status run(Signals& signals, const ExpertsHooks& experts);

  /// Shown by /health/ready while loading, and as progress to people; thread-safe. Valid while the
  /// service lives.
  PhaseProgress progress();

 private:
  Status listen(const ExpertsHooks& experts);
  Result<coordinator::ApiConfig> api_config(const ExpertsHooks& experts) const;
  Status load(const ExpertsHooks& experts);
  Status load_text();
  boost::json::object describe_model() const;
  boost::json::object describe_limits() const;
  boost::json::object live(const ExpertsHooks& experts) const;
  void observe_routing(const ExpertsHooks& experts);
  void start_scheduler(const ExpertsHooks& experts);
  void drain(Signals& signals);
  [[noreturn]] void leave_now(const char* reason, int code) const;
  coordinator::Readiness readiness(const ExpertsHooks& experts) const;
  std::string model_name() const;
  void report_progress(const std::string& phase, size_t done_bytes, size_t total_bytes);

  const ServiceOptions options_;
  const TimePoint started_ = system_clock().now();
  monitoring::Registry& registry_;
  monitoring::ServingProbe serving_probe_;
  monitoring::HttpProbe http_probe_;
  monitoring::StartProbe start_probe_;

  mutable std::mutex state_mutex_;
  std::string state_ = "starting";  // guarded by state_mutex_
  std::atomic<bool> loaded_{false};
  std::function<void(const std::string&, size_t, size_t)> show_progress_;

  std::unique_ptr<model::Tokenizer> tokenizer_;
  std::unique_ptr<model::ChatTemplate> chat_template_;  // null if the model has none
  std::unique_ptr<ModelRuntime> runtime_;
  std::unique_ptr<RecentRows> rows_;
  std::unique_ptr<coordinator::Scheduler> scheduler_;
  std::unique_ptr<coordinator::ApiServer> api_;
};

/// The runtime's part of the command line. `num_threads` is resolved.
RuntimeOptions runtime_options(const ModelOptions& model, const BatchingOptions& batching);

}  // namespace pregate::cli
