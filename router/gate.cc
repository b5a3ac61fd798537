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

}  // namespace pregate::router
