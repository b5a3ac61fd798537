// The arithmetic of a linear gate, for those who decide by it and those who guess by it.
#pragma once

#include <span>
#include <vector>

#include "compute/backend.h"
#include "router/router.h"

namespace pregate::router {

/// rows [n, h], without gaps, times a gate, f32 [num_experts, h]: [n, num_experts], in `storage`.
compute::Matrix<const float> gate_logits(compute::Backend& backend,
                                         const compute::PackedMatrix& gate,
                                         compute::Matrix<const float> rows,
                                         std::vector<float>& storage);

/// Sets `probabilities` to exp(logit - the largest one) and returns their sum.
float unscaled_softmax(std::span<const float> logits, std::vector<float>& probabilities);

}  // namespace pregate::router
