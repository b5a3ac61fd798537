#include "cli/local_service.h"

#include "cli/routing_counter.h"

namespace pregate::cli {

Status serve_locally(const ServiceOptions& options, bool per_expert_metrics, Signals& signals) {
  monitoring::Registry registry;
  Service service(options, registry);
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.model.model));
  const model::ModelConfig& config = checkpoint->config();
  monitoring::DispatchProbe probe(registry, {.worker_names = {"local"},
                                             .num_layers = config.num_layers(),
                                             .num_experts = config.num_experts,
                                             .per_expert = per_expert_metrics});
  probe.set_worker_up(0, true);
  RoutingCounter routing(probe, config.num_experts);
  const auto progress = [&service](const std::string& phase, size_t done, size_t total) {
    service.report_progress(phase, done, total);
  };
  const ExpertsHooks hooks{.connect = ModelRuntime::local_experts(options.model.weights, progress),
                           .available = [] { return Status{}; },
                           .observe =
                               [&](LayerIdx layer, const router::Decisions& decisions) {
                                 routing.count(layer, decisions);
                                 probe.dispatched(0, decisions.expert_ids.size(), 0);
                               }};
  return service.run(signals, hooks);
}

}  // namespace pregate::cli
