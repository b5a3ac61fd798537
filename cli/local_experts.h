// Experts in this process, counted in the metrics as one worker named "local".
#pragma once

#include <optional>

#include "cli/expert_memory.h"
#include "cli/experts_hooks.h"
#include "cli/routing_counter.h"

namespace pregate::cli {

class LocalExpertsMetrics {
 public:
  LocalExpertsMetrics(monitoring::Registry& registry, const model::ModelConfig& config,
                      bool per_expert)
      : registry_(registry),
        probe_(registry, {.num_layers = config.num_layers(),
                          .num_experts = config.num_experts,
                          .per_expert = per_expert}),
        routing_(probe_, config.num_experts) {}

  /// Valid while this object lives.
  ExpertsHooks hooks(const LocalExpertsOptions& options, PhaseProgress progress) {
    // Only a process with a cache reports one.
    const auto make_cache_probe = [this]() -> worker::CacheProbe& {
      return cache_.emplace(registry_);
    };
    return {.connect = connect_local_experts(options, make_cache_probe, std::move(progress)),
            .observe = [this](LayerIdx layer, const router::Decisions& decisions) {
              routing_.count(layer, decisions);
              probe_.dispatched("local", decisions.expert_ids.size(), 0);
            }};
  }

 private:
  monitoring::Registry& registry_;
  monitoring::DispatchProbe probe_;
  std::optional<ExpertCacheMetrics> cache_;
  RoutingCounter routing_;
};

}  // namespace pregate::cli
