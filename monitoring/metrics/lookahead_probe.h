#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/ids.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

/// How good a source of look-ahead is. Its series begin at zero. Used by the engine's thread.
class LookaheadProbe {
 public:
  /// `layers`: those with experts.
  LookaheadProbe(Registry& registry, const std::string& source,
                 const std::vector<LayerIdx>& layers);

  /// Of one layer of one step that was measured: distinct experts guessed, guessed and used, used.
  void measured(LayerIdx layer, uint64_t guessed, uint64_t hit, uint64_t used);
  /// Whether its guesses are followed.
  void set_active(bool active);

 private:
  struct Layer {
    prometheus::Counter* guesses;
    prometheus::Counter* hits;
    prometheus::Counter* needed;
  };
  std::map<LayerIdx, Layer> layers_;
  prometheus::Gauge& active_;
  prometheus::Counter& switched_off_;
};

}  // namespace pregate::monitoring
