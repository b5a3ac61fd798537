#include "router/lookahead/replay.h"

#include <algorithm>
#include <numeric>

namespace pregate::router {

Result<std::unique_ptr<ReplayLookahead>> ReplayLookahead::create(RoutingTrace trace,
                                                                 MoeLayers moe) {
  const auto same = [](uint32_t recorded, LayerIdx layer) { return recorded == layer.value; };
  if (trace.num_experts != moe.num_experts || !std::ranges::equal(trace.layers, moe.layers, same)) {
    return fail(ErrorCode::kInvalidArgument,
                "trace {}: of a model with {} experts in each of {} layers, which are not this "
                "model's",
                trace.text, trace.num_experts, trace.num_layers());
  }
  return std::unique_ptr<ReplayLookahead>(new ReplayLookahead(std::move(trace), std::move(moe)));
}

ReplayLookahead::ReplayLookahead(RoutingTrace trace, MoeLayers moe)
    : trace_(std::move(trace)), moe_(std::move(moe)), all_windows_(trace_.starts.size()) {
  std::iota(all_windows_.begin(), all_windows_.end(), 0u);
}

void ReplayLookahead::begin_step(const StepTokens& step, LayerTime now, Plan& plan) {
  if (moe_.layers.empty()) return;
  const LayerTime number = moe_.step_of(now);
  if (said_step_ == number) return;  // rows dropped out: the others' experts have been said
  said_step_ = number;
  needed_.assign(moe_.size(), std::vector<bool>(moe_.num_experts));
  for (const compute::SequenceRows& rows : step.sequences) {
    Windows windows = follow(rows, step.tokens.subspan(rows.first_row, rows.num_rows));
    if (!windows.empty()) {
      need(trace_.starts[windows.front()] + rows.first_position, rows.num_rows);
    }
    memory_.remember(rows, std::move(windows));
  }
  for (size_t index = 0; index < moe_.size(); ++index) {
    const LayerIdx layer = moe_.layers[index];
    for (uint32_t e = 0; e < moe_.num_experts; ++e) {
      if (!needed_[index][e]) continue;
      plan.push_back({layer, ExpertId(e), moe_.time_of(number, layer), /*certain=*/true});
    }
  }
}

ReplayLookahead::Windows ReplayLookahead::follow(const compute::SequenceRows& rows,
                                                 std::span<const TokenId> tokens) const {
  const Windows* before = rows.first_position == 0 ? &all_windows_ : memory_.recall(rows);
  if (before == nullptr) return {};
  Windows left;
  std::ranges::copy_if(*before, std::back_inserter(left), [&](uint32_t window) {
    return rows.first_position + tokens.size() <= window_tokens(window) &&
           std::ranges::equal(
               tokens, std::span(trace_.tokens)
                           .subspan(trace_.starts[window] + rows.first_position, tokens.size()));
  });
  return left;
}

size_t ReplayLookahead::window_tokens(uint32_t window) const {
  const bool is_last = window + 1 == trace_.starts.size();
  return (is_last ? trace_.num_tokens() : trace_.starts[window + 1]) - trace_.starts[window];
}

void ReplayLookahead::need(size_t first_token, size_t num_tokens) {
  for (size_t token = first_token; token < first_token + num_tokens; ++token) {
    for (size_t index = 0; index < moe_.size(); ++index) {
      for (const uint16_t expert : trace_.experts_of(token, index)) needed_[index][expert] = true;
    }
  }
}

}  // namespace pregate::router
