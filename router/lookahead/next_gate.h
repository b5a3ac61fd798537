// A later layer's gate applied to what the present layer's gate sees, for models whose routers
// decide layer by layer (the idea of Mixtral-offloading, arXiv 2312.17238): the residual stream
// changes little from layer to layer, so the later gate mostly says already what it will say.
#pragma once

#include <optional>

#include "compute/backend.h"
#include "router/lookahead/moe_layers.h"
#include "router/lookahead/need_estimate.h"

namespace pregate::router {

struct NextGateOptions {
  size_t depth = 1;         ///< Layers with experts that it looks ahead, within the step.
  size_t max_guesses = 32;  ///< For one layer and step.
};

/// That a row needs an expert is taken to be top_k times the gate's probability for it, at most 1:
/// over all experts that adds up to the top_k it will need. See NeedEstimate for several rows.
class NextGateLookahead final : public Lookahead {
 public:
  /// `gates[layer]`: f32 [num_experts, h], null in layers without experts. Back end and gates must
  /// outlive it.
  NextGateLookahead(compute::Backend& backend, std::vector<const compute::PackedMatrix*> gates,
                    MoeLayers moe, NextGateOptions options = {});

  std::string_view name() const override { return "next_gate"; }
  void begin_step(const StepTokens& step, LayerTime now, Plan& plan) override;
  void routed(LayerIdx layer, LayerTime now, compute::Matrix<const float> rows,
              const Decisions& decisions, Plan& plan) override;

 private:
  void estimate(const compute::PackedMatrix& gate, compute::Matrix<const float> rows);
  void guess(size_t index, LayerTime when, Plan& plan);

  compute::Backend& backend_;
  const std::vector<const compute::PackedMatrix*> gates_;
  const MoeLayers moe_;
  const NextGateOptions options_;
  NeedEstimate needs_;
  std::optional<LayerTime> step_;
  std::vector<std::vector<bool>> said_;        // [moe layer][expert], in this step
  std::vector<float> logits_, probabilities_;  // scratch
};

}  // namespace pregate::router
