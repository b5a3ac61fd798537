// How good guesses turn out to be, and whether they are worth following.
#pragma once

#include <map>
#include <vector>

#include "router/lookahead/lookahead.h"

namespace pregate::router {

/// Of one layer of one step, or added up over several. Each expert counts once per layer and step,
/// however many rows use it.
struct GuessCounts {
  uint64_t guessed = 0;
  uint64_t hit = 0;   ///< Guessed and used.
  uint64_t used = 0;  ///< Guessed or not.

  /// The share of what was guessed that was used; 0 where nothing was.
  double precision() const;
  /// The share of what was used that had been guessed; 0 where nothing was.
  double recall() const;
  GuessCounts& operator+=(const GuessCounts& other);
};

/// A source pays while enough of what it makes others load is used. The precision that this is
/// judged by is a mean in which older guesses weigh less and less.
struct PayRule {
  double off_below = 0.35;  ///< Precision; 0: never off. Then two of three loads are for nothing.
  double on_from = 0.45;    ///< Higher, so that a source between the two does not flap.
  size_t memory_guesses = 512;  ///< Of which the mean is, about.
  size_t min_guesses = 256;     ///< Before the first judgement.
};

/// Pure; used by one thread.
class GuessMeter {
 public:
  GuessMeter(size_t num_layers, PayRule rule);

  /// What a source said at `now`. Said again for the same time, an expert counts once.
  void guessed(const Plan& plan);
  /// A layer was routed: what became of the guesses for it. Guesses for earlier times, of layers
  /// that were never computed, are forgotten.
  GuessCounts routed(LayerIdx layer, LayerTime now, const Decisions& decisions);

  bool pays() const { return pays_; }
  double recent_precision() const { return recent_precision_; }
  const GuessCounts& of_layer(LayerIdx layer) const { return layers_.at(layer.value); }
  GuessCounts all_layers() const;

 private:
  void judge(uint64_t guessed, uint64_t hit);

  const PayRule rule_;
  std::vector<GuessCounts> layers_;  // [layer]
  std::map<LayerTime, std::vector<ExpertId>> open_;
  std::vector<ExpertId> used_;  // scratch, ascending, each once
  uint64_t num_judged_ = 0;     // guesses
  double recent_precision_ = 0.0;
  bool pays_ = true;
};

}  // namespace pregate::router
