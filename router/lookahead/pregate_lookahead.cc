#include "router/lookahead/pregate_lookahead.h"

namespace pregate::router {

void PregateLookahead::begin_step(const StepTokens& /*step*/, LayerTime now, Plan& plan) {
  if (moe_.layers.empty()) return;
  const LayerTime step = moe_.step_of(now);
  // What rows that are left need was said when there were more of them.
  if (said_step_ == step) return;
  said_step_ = step;
  std::vector<bool> needed;
  for (const LayerIdx layer : moe_.layers) {
    needed.assign(moe_.num_experts, false);
    for (const ExpertId expert : router_.decided(layer)) needed[expert.value] = true;
    for (uint32_t e = 0; e < needed.size(); ++e) {
      if (!needed[e]) continue;
      plan.push_back({layer, ExpertId(e), moe_.time_of(step, layer), /*certain=*/true});
    }
  }
}

}  // namespace pregate::router
