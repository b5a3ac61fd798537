// Which experts a row goes to.
#pragma once

#include <span>
#include <vector>

#include "base/ids.h"
#include "compute/types.h"

namespace pregate::router {

/// Decisions for n rows, row-major [n * top_k]. Experts of a row are in order of descending score;
/// equal scores in order of expert id. Gates are what expert outputs are multiplied with.
struct Decisions {
  size_t top_k = 0;
  std::vector<ExpertId> expert_ids;
  std::vector<float> gates;
};

/// How far ahead of the computation a router knows where rows will go.
enum class Horizon { kNone, kNextLayers, kAllLayers };

/// Used by one engine thread. Gate arithmetic is f32.
class Router {
 public:
  virtual ~Router() = default;
  virtual Horizon horizon() const { return Horizon::kNone; }
  /// rows [n, h]: the layer's input after its norm. Overwrites `out`.
  virtual void route(LayerIdx layer, compute::Matrix<const float> rows, Decisions& out) = 0;
};

}  // namespace pregate::router
