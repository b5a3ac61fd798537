// WeightFormat::kF8: 8.25 bits a weight. A group of kQ8Group inputs of an output has a scale, each
// weight a code in E4M3 (DType::kF8):
//   y = sum over groups of scale * (sum over the group of bf16(x) * code)
// This is how DeepSeek and Qwen publish weights, whose codes and scales are therefore kept as they
// are. Others are rounded: scale = max|w| / kLargestF8 over the group, code = w / scale, rounded to
// nearest even.
#pragma once

#include <span>

#include "compute/number.h"
#include "compute/types.h"

namespace pregate::compute {

/// Whether weights are published as kF8 keeps them: in E4M3, no group lying in two blocks. All the
/// rows of a block have one scale, of which each gets a copy.
constexpr bool is_kept_in_f8(DType dtype, const BlockScales& scales) {
  return dtype == DType::kF8 && scales.data != nullptr && scales.block_cols % kQ8Group == 0;
}

/// Writes the weights of an output in the layout of an encoded row in kQ8: scales, then codes.
/// `numbers`: row `row` of `source`, which read_row() has read and found right.
void keep_f8_row(const SourceMatrix& source, size_t row, std::span<const float> numbers,
                 std::byte* out);

}  // namespace pregate::compute
