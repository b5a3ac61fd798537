// WeightFormat::kQ4: 4.375 bits a weight. A group of kQ8Group inputs of an output has a scale, each
// of its parts a factor, and each weight a code:
//   weight = scale * (factor * code)
// A factor times a code is an int8, so that a group in kQ4 is one in kQ8 that takes half the
// memory: its products are those of kQ8, to the bit. Factors within a group's scale are what
// llama.cpp's K-quants have; theirs do not end in integers.
#pragma once

#include <cstdint>

#include "compute/types.h"

namespace pregate::compute {

/// Inputs that share a factor.
inline constexpr size_t kQ4Part = 16;
inline constexpr size_t kQ4Parts = kQ8Group / kQ4Part;
inline constexpr int kQ4LargestFactor = 15;
inline constexpr int kQ4SmallestCode = -8, kQ4LargestCode = 7;

/// How a group is rounded, on every back end to the same numbers:
///   scale    max|w| / kQ4ScaleSteps, rounded to bf16
///   y        kQ4Fraction * w / scale, rounded to an integer, so that sums of squares are exact in
///            any order; |y| is at most kQ4Fraction * 127
///   factor   of c - 2 to c + 1, where c = round(max|y| of the part / (7.5 * kQ4Fraction)), and of
///            1 to kQ4LargestFactor, the one whose codes have the least sum of squared errors; of
///            equals the smallest
///   code     round(y / (kQ4Fraction * factor)), within the bounds above
/// All rounding is to nearest even.
inline constexpr float kQ4ScaleSteps = 108.0f;
inline constexpr float kQ4Fraction = 4.0f;

struct Q4Group {
  float scale = 0.0f;  ///< Its lower 16 bits are zero. All zero: scale 0, factors 1, codes 0.
  uint8_t factors[kQ4Parts] = {};
  int8_t codes[kQ8Group] = {};  ///< Past the row's end 0.
};

}  // namespace pregate::compute
