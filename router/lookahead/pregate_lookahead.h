// What a router has decided before the step is computed: Read-ME's pre-gating, exact for all
// layers.
#pragma once

#include <optional>

#include "router/lookahead/moe_layers.h"

namespace pregate::router {

/// Says all of a step when it begins, each (layer, expert) once. Silent where the router decides
/// layer by layer.
class PregateLookahead final : public Lookahead {
 public:
  /// The router must outlive it.
  PregateLookahead(const Router& router, MoeLayers moe) : router_(router), moe_(std::move(moe)) {}

  std::string_view name() const override { return "pregate"; }
  void begin_step(const StepTokens& step, LayerTime now, Plan& plan) override;
  void routed(LayerIdx, LayerTime, compute::Matrix<const float>, const Decisions&, Plan&) override {
  }

 private:
  const Router& router_;
  const MoeLayers moe_;
  std::optional<LayerTime> said_step_;
};

}  // namespace pregate::router
