// Products of warpgroups (sm_90a), as the PTX ISA has them (chapter 9: wgmma). They are made when a
// warp waits for their group: what is read or given away before that is seen to be wrong.
#pragma once

#include <cstdint>

namespace pregate::emulated {

// For all lanes of a warp, of which each of a warpgroup's four makes its 16 rows of a product.

void begin_products();
/// Adds a [64][16] times b [num_cols][16]^T, bf16, to the lane's sums; `a` and `b` are descriptors
/// of matrices in shared memory, of rows of 128 bytes, swizzled.
void multiply_later(float* sums, uint32_t num_cols, uint64_t a, uint64_t b);
void commit_products();
/// Until at most `num_pending` groups are not made.
void wait_for_products(uint32_t num_pending);

/// For the block, when it begins.
void forget_products();

}  // namespace pregate::emulated
