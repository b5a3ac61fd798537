// How much memory weights take.
#pragma once

#include "compute/q4.h"
#include "compute/types.h"

namespace pregate::compute {

/// What the weights of an output with `cols` inputs take: as many bytes as an encoded row, but kQ4
/// its codes, factors and scales (kept_format() in backend.h: not everywhere), and kF8 as many as
/// kQ8: a byte each, and scales.
constexpr size_t weight_row_bytes(WeightFormat format, size_t cols) {
  if (format == WeightFormat::kF8) return encoded_row_bytes(WeightFormat::kQ8, cols);
  if (format != WeightFormat::kQ4) return encoded_row_bytes(format, cols);
  constexpr size_t kGroupBytes = kQ8Group / 2 + kQ4Parts / 2 + sizeof(uint16_t);
  return (cols + kQ8Group - 1) / kQ8Group * kGroupBytes;
}

}  // namespace pregate::compute
