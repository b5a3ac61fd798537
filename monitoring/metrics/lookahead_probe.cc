#include "monitoring/metrics/lookahead_probe.h"

namespace pregate::monitoring {

LookaheadProbe::LookaheadProbe(Registry& registry, const std::string& source,
                               const std::vector<LayerIdx>& layers)
    : active_(registry.gauges("pregate_lookahead_active", "Whether its guesses are followed.")
                  .Add({{"source", source}})),
      switched_off_(registry
                        .counters("pregate_lookahead_switched_off_total",
                                  "How often a source ceased to be followed.")
                        .Add({{"source", source}})) {
  auto& guesses = registry.counters("pregate_lookahead_guesses_total",
                                    "Experts guessed, once per layer and step.");
  auto& hits = registry.counters("pregate_lookahead_hits_total", "Of them, those that were used.");
  auto& needed = registry.counters("pregate_lookahead_needed_total",
                                   "Experts used in steps that were measured.");
  for (const LayerIdx layer : layers) {
    const prometheus::Labels labels{{"source", source}, {"layer", std::to_string(layer.value)}};
    layers_[layer] = {&guesses.Add(labels), &hits.Add(labels), &needed.Add(labels)};
  }
  active_.Set(1);
}

void LookaheadProbe::measured(LayerIdx layer, uint64_t guessed, uint64_t hit, uint64_t used) {
  const Layer& series = layers_.at(layer);
  series.guesses->Increment(static_cast<double>(guessed));
  series.hits->Increment(static_cast<double>(hit));
  series.needed->Increment(static_cast<double>(used));
}

void LookaheadProbe::set_active(bool active) {
  if (!active && active_.Value() == 1) switched_off_.Increment();
  active_.Set(active ? 1 : 0);
}

}  // namespace pregate::monitoring
