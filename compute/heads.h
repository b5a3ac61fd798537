// What becomes of a row's heads between their products and attention (Backend::place_heads()).
#pragma once

#include <cstddef>
#include <limits>
#include <span>

#include "compute/types.h"

namespace pregate::compute {

/// In this order.
struct HeadOptions {
  size_t layer = 0;
  /// Weights of norms of queries and of keys (Backend::rms_norm()): over as many columns, which are
  /// those of a head or of a whole row; empty: no norm.
  std::span<const float> q_norm, k_norm;
  float epsilon = 0.0f;  ///< Of the norms.
  /// Every number, of values too, is brought between -limit and limit. A NaN stays.
  float limit = std::numeric_limits<float>::infinity();
  /// Rotary embedding of queries and keys: [n, r / 2], without gaps. Halves are paired (x[j],
  /// x[j + r / 2]) in each head, whose numbers from r on stay. No columns: all stay.
  Matrix<const float> cos, sin;
};

}  // namespace pregate::compute
