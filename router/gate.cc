#include "router/gate.h"

#include <algorithm>
#include <cmath>

#include "compute/f32_rows.h"

namespace pregate::router {

compute::Matrix<const float> gate_logits(compute::Backend& backend,
                                         const compute::PackedMatrix& gate,
                                         compute::Matrix<const float> rows,
                                         std::vector<float>& storage) {
  const size_t num_experts = gate.out_features();
  storage.resize(rows.rows * num_experts);
  const compute::Matrix<float> logits(storage.data(), rows.rows, num_experts);
  backend.linear(compute::f32_rows(rows), gate, {}, logits);
  return logits;
}

float unscaled_softmax(std::span<const float> logits, std::vector<float>& probabilities) {
  const float max = *std::max_element(logits.begin(), logits.end());
  probabilities.resize(logits.size());
  float sum = 0.0f;
  for (size_t e = 0; e < logits.size(); ++e) sum += probabilities[e] = std::exp(logits[e] - max);
  return sum;
}

void choose_top_k(std::span<const float> logits, size_t top_k, bool normalize,
                  std::vector<float>& probabilities, Decisions& out) {
  const float sum = unscaled_softmax(logits, probabilities);
  const size_t first = out.expert_ids.size();
  float chosen_sum = 0.0f;
  for (size_t k = 0; k < top_k; ++k) {
    // Few experts and small k: a scan per choice beats a heap, and ties go to the lower id by
    // itself.
    const auto best = std::max_element(probabilities.begin(), probabilities.end());
    out.expert_ids.push_back(ExpertId(static_cast<uint32_t>(best - probabilities.begin())));
    out.gates.push_back(*best / sum);
    chosen_sum += out.gates.back();
    *best = -1.0f;
  }
  if (!normalize) return;
  for (size_t k = first; k < out.gates.size(); ++k) out.gates[k] /= chosen_sum;
}

}  // namespace pregate::router
