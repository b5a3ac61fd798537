// How the KV cache lies in a device's memory:
//
//   [layer][block][KV head][ kKvTokens keys, then as many values ]
//
// A key or value has kv_width() numbers: those of the head, and then zeros, so that it is a whole
// number of 16-byte pieces. Attention over it is cut into splits of kSplitTokens tokens. Knows
// nothing of CUDA.
#pragma once

#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {

/// Tokens of a block: kKvBlockTokens, which kernels do not see.
inline constexpr size_t kKvTokens = 16;

/// What one block of a kernel attends to at a time. Splits begin at multiples of it, wherever a
/// step begins: so a row's sums are made of the same parts in any step.
inline constexpr size_t kSplitTokens = 128;

constexpr size_t kv_width(DType dtype, size_t head_dim) {
  return round_up(head_dim, 16 / dtype_bytes(dtype));
}

/// Of one head in one block: keys and values.
constexpr size_t kv_head_bytes(DType dtype, size_t head_dim) {
  return 2 * kKvTokens * kv_width(dtype, head_dim) * dtype_bytes(dtype);
}

}  // namespace pregate::compute::cuda
