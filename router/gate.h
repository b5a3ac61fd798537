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

/// The k best experts of one row of gate logits [num_experts], in Router's order. `probabilities`
/// is scratch. Gates are the softmax over all experts at the chosen ones; with `normalize` they are
/// scaled to sum to one (Mixtral's softmax over the chosen logits is the same thing).
void choose_top_k(std::span<const float> logits, size_t top_k, bool normalize,
                  std::vector<float>& probabilities, Decisions& out);

}  // namespace pregate::router
