// Counts the router's decisions for the metrics: tokens per layer and expert.
#pragma once

#include <vector>

#include "monitoring/metrics/dispatch_probe.h"
#include "router/router.h"

namespace pregate::cli {

/// Adds a step's decisions up first: an atomic addition per decision would cost as much as routing.
class RoutingCounter {
 public:
  RoutingCounter(monitoring::DispatchProbe& probe, size_t num_experts)
      : probe_(probe), tokens_(num_experts) {}

  void count(LayerIdx layer, const router::Decisions& decisions) {
    for (const ExpertId expert : decisions.expert_ids) ++tokens_[expert.value];
    for (uint32_t expert = 0; expert < tokens_.size(); ++expert) {
      if (tokens_[expert] > 0) probe_.routed(layer, ExpertId(expert), tokens_[expert]);
      tokens_[expert] = 0;
    }
  }

 private:
  monitoring::DispatchProbe& probe_;
  std::vector<uint64_t> tokens_;  // scratch
};

}  // namespace pregate::cli
