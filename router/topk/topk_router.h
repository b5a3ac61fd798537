// The router ordinary MoE models are trained with: softmax over a linear gate, best k.
#pragma once

#include <vector>

#include "compute/backend.h"
#include "router/router.h"

namespace pregate::router {

class TopKRouter final : public Router {
 public:
  /// `gates[layer]`: f32 [num_experts, h], null in dense layers. Backend and gates must outlive it.
  struct Options {
    size_t num_experts = 0;
    size_t top_k = 0;
    bool normalize = false;
    std::vector<const compute::PackedMatrix*> gates;
  };
  TopKRouter(compute::Backend& backend, Options options);

  Status begin_step(const StepTokens& step) override;
  void route(LayerIdx layer, compute::Matrix<const float> rows, Decisions& out) override;
  size_t unattended_top_k() const override { return options_.top_k; }
  void route_unattended(LayerIdx layer, compute::Matrix<const float> rows,
                        const compute::TopK& chosen) override;

 private:
  compute::Backend& backend_;
  const Options options_;
  compute::RowBuffer logits_memory_;
  compute::Matrix<float> logits_;  // [n, num_experts]
  std::vector<uint32_t> ids_;      // [n * top_k]
};

}  // namespace pregate::router
