// Which rows a row is the sum of (Backend::sum_rows()).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compute/types.h"

namespace pregate::compute {

/// Row i is the sum of addends [ends[i - 1], ends[i]), the first one from 0; ends.back() is the
/// number of them all. These lists are host memory, wherever the addends are.
struct RowSums {
  std::span<const uint32_t> ends;
  std::span<const float* const> addends;  ///< Each is of as many numbers as a sum.

  std::span<const float* const> of(size_t row) const {
    const size_t first = row == 0 ? 0 : ends[row - 1];
    return addends.subspan(first, ends[row] - first);
  }
};

/// Whether it says of each row of `out` what its addends are, and of no more.
bool fits(const RowSums& sums, const Matrix<float>& out);

/// In host memory.
void sum_up(std::span<const float* const> addends, std::span<float> sum);

}  // namespace pregate::compute
