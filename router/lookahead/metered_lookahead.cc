#include "router/lookahead/metered_lookahead.h"

#include "base/log.h"

namespace pregate::router {

MeteredLookahead::MeteredLookahead(std::unique_ptr<Lookahead> source, MoeLayers moe, PayRule rule,
                                   GuessObserver observer)
    : source_(std::move(source)),
      moe_(std::move(moe)),
      observer_(std::move(observer)),
      meter_(moe_.num_layers, rule) {}

void MeteredLookahead::begin_step(const StepTokens& step, LayerTime now, Plan& plan) {
  const LayerTime number = moe_.step_of(now);
  if (step_ != number) {
    step_ = number;
    asking_ = active() || number % kMeasureEvery < 2;
  }
  if (!asking_) return;
  said_.clear();
  source_->begin_step(step, now, said_);
  say(plan);
}

void MeteredLookahead::routed(LayerIdx layer, LayerTime now, compute::Matrix<const float> rows,
                              const Decisions& decisions, Plan& plan) {
  if (!asking_) return;
  measure(layer, now, decisions);
  said_.clear();
  source_->routed(layer, now, rows, decisions, said_);
  say(plan);
}

void MeteredLookahead::measure(LayerIdx layer, LayerTime now, const Decisions& decisions) {
  const bool was_active = active();
  const GuessCounts counts = meter_.routed(layer, now, decisions);
  if (active() != was_active) {
    spdlog::info("look-ahead {}: {}: {:.0f} % of its latest guesses were right", name(),
                 active() ? "followed again" : "not followed any more",
                 100.0 * meter_.recent_precision());
  }
  if (observer_) observer_({name(), layer, counts, active()});
}

void MeteredLookahead::say(Plan& plan) {
  meter_.guessed(said_);
  if (active()) plan.insert(plan.end(), said_.begin(), said_.end());
}

}  // namespace pregate::router
