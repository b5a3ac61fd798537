// What the lanes of a warp do together: fragments of matrices and their products, as the PTX ISA
// has them (chapter 9: ldmatrix, movmatrix, mma), and reductions. Called by all lanes of a warp.
#pragma once

#include <cstdint>

namespace pregate::emulated {

/// 8 x 8 numbers of 16 bits each, of which lane 8 m + r names the address of row r of matrix m, and
/// lane l receives numbers 2 (l % 4) and the next of row l / 4.
void load_matrices_4(uint32_t (&out)[4], uint32_t address);
void load_matrices_2(uint32_t (&out)[2], uint32_t address);
uint32_t turn_over(uint32_t pair);

/// Adds a times b to sums of 16 x 8: a is 16 x 16, b is 16 x 8.
void multiply_bf16(float* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
/// a is 16 x 32, b is 32 x 8.
void multiply_int8(int32_t* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

int32_t largest(int32_t value);
/// What the lane brought whose number differs from this one's in the bits of `mask`.
template <typename T>
T exchange(T value, uint32_t mask);
/// What the lane brought that is so many before this one; the lane's own, if there is none.
uint32_t shift(uint32_t value, uint32_t steps);

}  // namespace pregate::emulated
