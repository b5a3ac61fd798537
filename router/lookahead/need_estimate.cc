#include "router/lookahead/need_estimate.h"

#include <algorithm>
#include <numeric>

namespace pregate::router {

NeedEstimate::NeedEstimate(size_t num_experts, size_t top_k)
    : top_k_(std::min(top_k, num_experts)), order_(num_experts) {
  spared_.resize(num_experts);
  candidates_.resize(num_experts);
  clear();
}

void NeedEstimate::clear() {
  std::ranges::fill(spared_, 1.0f);
  candidates_.assign(candidates_.size(), false);
}

void NeedEstimate::add_row(std::span<const float> likely) {
  for (size_t e = 0; e < likely.size(); ++e) {
    spared_[e] *= 1.0f - std::clamp(likely[e], 0.0f, 1.0f);
  }
  std::iota(order_.begin(), order_.end(), 0u);
  const auto likelier = [&](uint32_t a, uint32_t b) {
    return likely[a] != likely[b] ? likely[a] > likely[b] : a < b;
  };
  const auto end = order_.begin() + static_cast<ptrdiff_t>(top_k_);
  std::ranges::nth_element(order_, end, likelier);
  for (auto e = order_.begin(); e != end; ++e) {
    if (likely[*e] > 0.0f) candidates_[*e] = true;
  }
}

std::vector<NeedEstimate::Need> NeedEstimate::best(size_t limit) const {
  std::vector<Need> needs;
  for (uint32_t e = 0; e < spared_.size(); ++e) {
    if (candidates_[e]) needs.push_back({ExpertId(e), 1.0f - spared_[e]});
  }
  // Stable: among equals the lower id stays first.
  std::ranges::stable_sort(needs, std::greater(), &Need::likelihood);
  if (needs.size() > limit) needs.resize(limit);
  return needs;
}

void append_guesses(std::span<const NeedEstimate::Need> needs, LayerIdx layer, LayerTime when,
                    Plan& plan) {
  for (const auto& [expert, likelihood] : needs) {
    plan.push_back({layer, expert, when, /*certain=*/false, likelihood});
  }
}

}  // namespace pregate::router
