// Rows of floats as a kernel for f32 weights takes them.
#pragma once

#include "base/check.h"
#include "compute/types.h"

namespace pregate::compute {

/// The same memory: f32 needs no encoding. The rows must follow one another without gaps.
inline EncodedRows f32_rows(Matrix<const float> rows) {
  PREGATE_CHECK(rows.stride == rows.cols);
  return {WeightFormat::kF32, rows.rows, rows.cols, reinterpret_cast<const std::byte*>(rows.data)};
}

}  // namespace pregate::compute
