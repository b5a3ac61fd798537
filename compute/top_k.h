// Which experts a row goes to, by the logits of its gate.
#pragma once

#include <span>

#include "compute/types.h"

namespace pregate::compute {

struct TopKOptions {
  size_t k = 0;
  bool normalize = false;  ///< Gates are scaled to sum to one.
};

/// For each row of logits [n, e]: its k largest, in descending order and equal ones in order of
/// their numbers; a NaN is below all others. Gates are the softmax over the row at those (Mixtral's
/// softmax over the chosen alone is the same, normalised).
struct TopK {
  std::span<uint32_t> ids;  ///< [n * k]
  std::span<float> gates;   ///< [n * k]

  TopK row(size_t r, size_t k) const { return {ids.subspan(r * k, k), gates.subspan(r * k, k)}; }
};

/// For one row.
void choose_top_k(std::span<const float> logits, const TopKOptions& options, const TopK& out);

}  // namespace pregate::compute
