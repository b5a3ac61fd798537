#include "router/topk/topk_router.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace pregate::router {

void choose_top_k(std::span<const float> logits, size_t top_k, bool normalize,
                  std::vector<float>& probabilities, Decisions& out) {
  const float max = *std::max_element(logits.begin(), logits.end());
  probabilities.resize(logits.size());
  float sum = 0.0f;
  for (size_t e = 0; e < logits.size(); ++e) sum += probabilities[e] = std::exp(logits[e] - max);

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

TopKRouter::TopKRouter(compute::Backend& backend, Options options)
    : backend_(backend), options_(std::move(options)) {
  PREGATE_CHECK(options_.top_k > 0 && options_.top_k <= options_.num_experts);
}

void TopKRouter::route(LayerIdx layer, compute::Matrix<const float> rows, Decisions& out) {
  const compute::PackedMatrix* gate = options_.gates.at(layer.value);
  PREGATE_CHECK(gate != nullptr && rows.stride == rows.cols);
  const size_t num_experts = options_.num_experts;
  logits_.resize(rows.rows * num_experts);
  const compute::EncodedRows encoded{compute::WeightFormat::kF32, rows.rows, rows.cols,
                                     reinterpret_cast<const std::byte*>(rows.data)};
  backend_.linear(encoded, *gate, {}, {logits_.data(), rows.rows, num_experts});

  out.top_k = options_.top_k;
  out.expert_ids.clear();
  out.gates.clear();
  for (size_t r = 0; r < rows.rows; ++r) {
    const std::span<const float> logits(logits_.data() + r * num_experts, num_experts);
    choose_top_k(logits, options_.top_k, options_.normalize, probabilities_, out);
  }
}

}  // namespace pregate::router
