// The router ordinary MoE models are trained with: softmax over a linear gate, best k.
#pragma once

#include <memory>
#include <vector>

#include "compute/backend.h"
#include "router/gate.h"
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

  void route(LayerIdx layer, compute::Matrix<const float> rows, Decisions& out) override;

 private:
  compute::Backend& backend_;
  const Options options_;
  std::vector<float> logits_;  // scratch, [n, num_experts]
  std::vector<float> probabilities_;
};

}  // namespace pregate::router
