// Experts in this process, counted in the metrics as one worker named "local".
#pragma once

#include "cli/experts_hooks.h"
#include "cli/routing_counter.h"

namespace pregate::cli {

class LocalExpertsMetrics {
 public:
  LocalExpertsMetrics(monitoring::Registry& registry, const model::ModelConfig& config,
                      bool per_expert)
      : probe_(registry, {.num_layers = config.num_layers(),
                          .num_experts = config.num_experts,
                          .per_expert = per_expert}),
        routing_(probe_, config.num_experts) {}

  /// Valid while this object lives.
  ExpertsHooks hooks(compute::WeightFormat format, PhaseProgress progress) {
    return {.connect = ModelRuntime::local_experts(format, std::move(progress)),
            .observe = [this](LayerIdx layer, const router::Decisions& decisions) {
              routing_.count(layer, decisions);
              probe_.dispatched("local", decisions.expert_ids.size(), 0);
            }};
  }

 private:
  monitoring::DispatchProbe probe_;
  RoutingCounter routing_;
};

}  // namespace pregate::cli
