#include "router/lookahead/next_gate.h"

#include <utility>

#include "base/check.h"
#include "router/gate.h"

namespace pregate::router {

NextGateLookahead::NextGateLookahead(compute::Backend& backend,
                                     std::vector<const compute::PackedMatrix*> gates, MoeLayers moe,
                                     NextGateOptions options)
    : backend_(backend),
      gates_(std::move(gates)),
      moe_(std::move(moe)),
      options_(options),
      needs_(moe_.num_experts, moe_.top_k),
      said_(moe_.size(), std::vector<bool>(moe_.num_experts)) {
  for (const LayerIdx layer : moe_.layers) PREGATE_CHECK(gates_.at(layer.value) != nullptr);
}

void NextGateLookahead::begin_step(const StepTokens& /*step*/, LayerTime now, Plan& /*plan*/) {
  if (moe_.layers.empty() || step_ == moe_.step_of(now)) return;
  step_ = moe_.step_of(now);
  for (auto& experts : said_) experts.assign(moe_.num_experts, false);
}

void NextGateLookahead::routed(LayerIdx layer, LayerTime now, compute::Matrix<const float> rows,
                               const Decisions& /*decisions*/, Plan& plan) {
  const size_t index = moe_.index_of(layer);
  for (size_t later = index + 1; later <= index + options_.depth && later < moe_.size(); ++later) {
    const LayerIdx target = moe_.layers[later];
    estimate(*gates_[target.value], rows);
    guess(later, now + (target.value - layer.value), plan);
  }
}

void NextGateLookahead::estimate(const compute::PackedMatrix& gate,
                                 compute::Matrix<const float> rows) {
  const auto logits = gate_logits(backend_, gate, rows, logits_);
  needs_.clear();
  for (size_t r = 0; r < logits.rows; ++r) {
    const float sum = unscaled_softmax(logits.row(r), probabilities_);
    for (float& p : probabilities_) p *= static_cast<float>(moe_.top_k) / sum;
    needs_.add_row(probabilities_);
  }
}

// A layer nearer by sees more: what the farther one said already is not said again.
void NextGateLookahead::guess(size_t index, LayerTime when, Plan& plan) {
  std::vector<NeedEstimate::Need> needs = needs_.best(options_.max_guesses);
  std::vector<bool>& said = said_[index];
  std::erase_if(needs, [&](const auto& need) { return said[need.expert.value]; });
  for (const auto& need : needs) said[need.expert.value] = true;
  append_guesses(needs, moe_.layers[index], when, plan);
}

}  // namespace pregate::router
