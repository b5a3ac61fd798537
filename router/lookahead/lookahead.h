// What is known, or guessed, of where rows will go before they go there.
//
// A plan only ever moves data: it says which weights to have at hand when. What is computed is what
// the router decides.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "router/router.h"

namespace pregate::router {

/// Layers computed since the engine began: step * num_layers + layer. Both sides of a plan count
/// so.
using LayerTime = uint64_t;

struct PlannedExpert {
  LayerIdx layer;
  ExpertId expert;
  LayerTime when = 0;       ///< The earliest time it is needed.
  bool certain = false;     ///< The router has decided; else it is a guess.
  float likelihood = 1.0f;  ///< That it is needed then; 1 where it is certain.
};

/// In order of `when`; among those of one time the likelier first.
using Plan = std::vector<PlannedExpert>;

/// Used by the engine's thread. Each call appends to `plan` what it knows that was not said before.
class Lookahead {
 public:
  virtual ~Lookahead() = default;
  /// For logs and metrics: "pregate", "next_gate", "transitions", "replay".
  virtual std::string_view name() const = 0;
  /// A step begins, at `now` = the time of its first layer; the router has seen its rows. Called
  /// again within a step when rows drop out, with those that are left and the next layer's time.
  /// What `step` refers to stays as it is until the step ends or begins again.
  virtual void begin_step(const StepTokens& step, LayerTime now, Plan& plan) = 0;
  /// A layer was routed: rows [n, h] are what its gate saw, `decisions` what it said.
  virtual void routed(LayerIdx layer, LayerTime now, compute::Matrix<const float> rows,
                      const Decisions& decisions, Plan& plan) = 0;
};

}  // namespace pregate::router
