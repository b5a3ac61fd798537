// What becomes of the sums of a panel times a tile of rows. Four warps hold them as the matrix
// units leave them: lane l of warp w has, of panel rows 16 w + l / 4 and 8 more (`low`) and of
// those 64 further (`high`), in turn, tile rows 8 j + 2 (l % 4) and the next, at
// [4 j + 2 (second panel row) + (second tile row)].
#pragma once

#include <cuda_bf16.h>

#include "compute/cuda/args.h"
#include "compute/cuda/kernels/activation.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {
namespace {

/// Rows of a tile that one block of threads multiplies with panel `panel`.
struct Work {
  uint32_t panel = 0;
  uint32_t first_row = 0;
  uint32_t num_rows = 0;
};

/// Which sums a thread holds. What does not depend on the sum is worked out once, as there are up
/// to 192 of them and instructions must come from a cache too.
struct Place {
  uint32_t output = 0;  ///< The first of two, 8 apart.
  uint32_t row = 0;     ///< The first of two, one apart; the next two 8 further.

  __device__ __forceinline__ explicit Place(uint32_t warp)
      : output(16 * warp + threadIdx.x % 32 / 4), row(2 * (threadIdx.x % 4)) {}
};

/// One of `low` and `high`: 64 outputs, beginning with column `first`.
template <int kCols>
__device__ __forceinline__ void store_numbers(const GemmTarget& target, const Work& work,
                                              const Place& place, uint32_t first,
                                              const float (&sums)[kCols / 2]) {
#pragma unroll
  for (uint32_t second = 0; second < 2; ++second) {
    const uint32_t col = first + place.output + 8 * second;
    if (col >= target.out_cols) return;
    const float bias = target.bias == nullptr ? 0.0f : target.bias[col];
    auto* to = reinterpret_cast<float*>(target.out) +
               size_t(work.first_row + place.row) * target.out_stride + col;
#pragma unroll
    for (uint32_t j = 0; j < kCols / 8; ++j, to += 8 * target.out_stride) {
      const uint32_t row = 8 * j + place.row;
      if (row < work.num_rows) to[0] = sums[4 * j + 2 * second] + bias;
      if (row + 1 < work.num_rows) to[target.out_stride] = sums[4 * j + 2 * second + 1] + bias;
    }
  }
}

template <int kCols>
__device__ __forceinline__ void store_numbers(const GemmTarget& target, const Work& work,
                                              uint32_t warp, const float (&low)[kCols / 2],
                                              const float (&high)[kCols / 2]) {
  const Place place(warp);
  const uint32_t first = work.panel * kPanelRows;
  store_numbers<kCols>(target, work, place, first, low);
  store_numbers<kCols>(target, work, place, first + kHalfPanel, high);
}

template <int kCols>
__device__ __forceinline__ void store_f32_activations(const GemmTarget& target, const Work& work,
                                                      uint32_t warp, const float (&gate)[kCols / 2],
                                                      const float (&up)[kCols / 2]) {
  const Place place(warp);
  auto* out = reinterpret_cast<float*>(target.out) +
              size_t(work.first_row + place.row) * target.out_stride + work.panel * kHalfPanel;
#pragma unroll
  for (uint32_t i = 0; i < kCols / 2; ++i) {
    const uint32_t row = i / 4 * 8 + i % 2;
    if (place.row + row >= work.num_rows) continue;
    out[row * target.out_stride + place.output + (i & 2 ? 8 : 0)] = silu_times(gate[i], up[i]);
  }
}

/// As rows of the next product: 64 bf16 are one k block of it. Eight outputs of eight rows are
/// turned over at a time, so that a lane has neighbouring outputs of one row.
template <int kCols>
__device__ __forceinline__ void store_bf16_activations(const GemmTarget& target, const Work& work,
                                                       uint32_t warp,
                                                       const float (&gate)[kCols / 2],
                                                       const float (&up)[kCols / 2]) {
  const uint32_t row = threadIdx.x % 32 / 4, outputs = 2 * (threadIdx.x % 4);
  std::byte* block =
      target.out + (size_t(work.panel) * target.out_stride + work.first_row) * kBlockBytes;
#pragma unroll
  for (uint32_t second = 0; second < 2; ++second) {
    std::byte* to = block + swizzled(row, 2 * (16 * warp + 8 * second + outputs));
#pragma unroll
    for (uint32_t j = 0; j < kCols / 8; ++j) {
      const uint32_t i = 4 * j + 2 * second;
      const __nv_bfloat162 pair = __floats2bfloat162_rn(rough_silu_times(gate[i], up[i]),
                                                        rough_silu_times(gate[i + 1], up[i + 1]));
      const uint32_t turned = turn_over(reinterpret_cast<const uint32_t&>(pair));
      if (8 * j >= work.num_rows) continue;  // up to 7 rows more: nobody's
      *reinterpret_cast<uint32_t*>(to + j * kAtomRows * kBlockBytes) = turned;
    }
  }
}

}  // namespace
}  // namespace pregate::compute::cuda
