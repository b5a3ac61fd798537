// Which layers of a model have experts, and when they are computed.
#pragma once

#include <algorithm>
#include <vector>

#include "model/config.h"
#include "router/lookahead/lookahead.h"

namespace pregate::router {

struct MoeLayers {
  size_t num_layers = 0;         ///< Dense ones too.
  std::vector<LayerIdx> layers;  ///< Those with experts, ascending.
  size_t num_experts = 0;        ///< Of each of them.
  size_t top_k = 0;              ///< Experts of a row.

  static MoeLayers of(const model::ModelConfig& config) {
    MoeLayers moe{config.num_layers(), {}, config.num_experts, config.top_k};
    for (uint32_t layer = 0; layer < config.num_layers(); ++layer) {
      if (config.layers[layer].is_moe) moe.layers.push_back(LayerIdx(layer));
    }
    return moe;
  }

  size_t size() const { return layers.size(); }
  /// The place of a layer in `layers`.
  size_t index_of(LayerIdx layer) const {
    return static_cast<size_t>(std::ranges::lower_bound(layers, layer) - layers.begin());
  }
  /// Of the step that `now` belongs to.
  LayerTime step_of(LayerTime now) const { return now / num_layers; }
  LayerTime time_of(LayerTime step, LayerIdx layer) const {
    return step * num_layers + layer.value;
  }
};

}  // namespace pregate::router
