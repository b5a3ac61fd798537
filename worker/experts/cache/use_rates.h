// When experts will be needed again, as their use so far makes likely.
#pragma once

#include <map>

#include "router/lookahead/lookahead.h"
#include "worker/experts/expert_key.h"

namespace pregate::worker {

/// A step needs an expert with the share of the steps before that needed it, of which each counts
/// the less the longer ago it was. Its layer comes once in a step: what was just needed cannot be
/// needed at once, which is what the least recently used one gets wrong when many layers go round
/// in little memory. Not thread-safe.
class UseRates {
 public:
  explicit UseRates(size_t num_layers) : num_layers_(num_layers) {}

  void used(const ExpertKey& key, router::LayerTime now);
  /// In layers from `from` on: to when its layer comes, and a whole step more for each time it is
  /// not needed then.
  double expected_distance(const ExpertKey& key, router::LayerTime from) const;

 private:
  struct Rate {
    double share = 0;  ///< Of the steps up to `at`.
    router::LayerTime at = 0;
  };

  /// The share as it is at `now` if it is not needed then.
  double faded(const Rate& rate, router::LayerTime now) const;

  const size_t num_layers_;
  std::map<ExpertKey, Rate> rates_;
};

}  // namespace pregate::worker
