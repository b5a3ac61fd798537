// A source whose guesses are measured, and followed only while they pay.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "router/lookahead/guess_meter.h"
#include "router/lookahead/moe_layers.h"

namespace pregate::router {

/// What became of a source's guesses for a layer of one step that was measured.
struct GuessReport {
  std::string_view source;
  LayerIdx layer;
  GuessCounts counts;
  bool active = true;  ///< The source is followed, from now on.
};
using GuessObserver = std::function<void(const GuessReport&)>;

/// While its source does not pay, nothing is said, and the source is asked in two steps of every
/// kMeasureEvery only (two, because what is guessed at the end of one is for the next), to see
/// whether it would pay again. Each change is logged.
class MeteredLookahead final : public Lookahead {
 public:
  static constexpr LayerTime kMeasureEvery = 32;

  /// The observer is called on the engine's thread, once for each layer with experts that is
  /// measured; empty: nobody.
  MeteredLookahead(std::unique_ptr<Lookahead> source, MoeLayers moe, PayRule rule,
                   GuessObserver observer);

  std::string_view name() const override { return source_->name(); }
  void begin_step(const StepTokens& step, LayerTime now, Plan& plan) override;
  void routed(LayerIdx layer, LayerTime now, compute::Matrix<const float> rows,
              const Decisions& decisions, Plan& plan) override;

  const GuessMeter& meter() const { return meter_; }
  bool active() const { return meter_.pays(); }

 private:
  void measure(LayerIdx layer, LayerTime now, const Decisions& decisions);
  void say(Plan& plan);

  const std::unique_ptr<Lookahead> source_;
  const MoeLayers moe_;
  const GuessObserver observer_;
  GuessMeter meter_;
  std::optional<LayerTime> step_;
  bool asking_ = true;  // the source, in this step
  Plan said_;           // scratch
};

}  // namespace pregate::router
