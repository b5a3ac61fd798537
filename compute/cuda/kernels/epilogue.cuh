// What becomes of the sums of a panel times a tile of rows. Four warps hold them as the matrix
// units leave them: lane l of warp w has, of panel rows 16 w + l / 4 and 8 more (`low`) and of
// those 64 further (`high`), in turn, tile rows 8 j + 2 (l % 4) and the next, at
// [4 j + 2 (second panel row) + (second tile row)].
#pragma once

#include <cuda_bf16.h>

#include "compute/cuda/args.h"
#include "compute/cuda/kernels/activation.cuh"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {
namespace {

/// Rows of a tile that one block of threads multiplies with panel `panel`.
struct Work {
  uint32_t panel = 0;
  uint32_t first_row = 0;
  uint32_t num_rows = 0;
  uint32_t num_panels = 0;
};

/// Calls visit(panel row below 64, tile row, low, high) for each pair of sums of this thread.
template <int kCols, typename Visit>
__device__ __forceinline__ void for_sums(const float (&low)[kCols / 2],
                                         const float (&high)[kCols / 2], uint32_t warp,
                                         Visit visit) {
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kCols / 2; ++i) {
    const uint32_t output = 16 * warp + lane / 4 + (i & 2 ? 8 : 0);
    const uint32_t row = i / 4 * 8 + 2 * (lane % 4) + (i & 1);
    visit(output, row, low[i], high[i]);
  }
}

template <int kCols>
__device__ __forceinline__ void store_numbers(const GemmArgs& args, const Work& work, uint32_t warp,
                                              const float (&low)[kCols / 2],
                                              const float (&high)[kCols / 2]) {
  auto* out = reinterpret_cast<float*>(args.out);
  const uint32_t first = work.panel * kPanelRows;
  for_sums<kCols>(low, high, warp, [&](uint32_t output, uint32_t row, float below, float above) {
    if (row >= work.num_rows) return;
    float* to = out + size_t(work.first_row + row) * args.out_stride;
    const auto store = [&](uint32_t col, float value) {
      if (col >= args.out_cols) return;
      to[col] = args.bias == nullptr ? value : value + args.bias[col];
    };
    store(first + output, below);
    store(first + 64 + output, above);
  });
}

template <int kCols>
__device__ __forceinline__ void store_f32_activations(const GemmArgs& args, const Work& work,
                                                      uint32_t warp, const float (&gate)[kCols / 2],
                                                      const float (&up)[kCols / 2]) {
  auto* out = reinterpret_cast<float*>(args.out);
  for_sums<kCols>(gate, up, warp, [&](uint32_t output, uint32_t row, float g, float u) {
    if (row >= work.num_rows) return;
    out[size_t(work.first_row + row) * args.out_stride + work.panel * 64 + output] =
        silu_times(g, u);
  });
}

/// As rows of the next product: 64 bf16 are one k block of it. They are put in order in `staging`
/// (kCols * 128 bytes of shared memory), so that they leave as whole lines; `sync` waits for the
/// 128 threads.
template <int kCols, typename Sync>
__device__ __forceinline__ void store_bf16_activations(const GemmArgs& args, const Work& work,
                                                       uint32_t warp, uint8_t* staging,
                                                       const float (&gate)[kCols / 2],
                                                       const float (&up)[kCols / 2], Sync sync) {
  for_sums<kCols>(gate, up, warp, [&](uint32_t output, uint32_t row, float g, float u) {
    const __nv_bfloat16 value = __float2bfloat16_rn(rough_silu_times(g, u));
    *reinterpret_cast<__nv_bfloat16*>(staging + swizzled(row, 2 * output)) = value;
  });
  sync();
  const size_t first = size_t(work.panel) * args.out_stride + work.first_row;
  std::byte* to = args.out + first * kBlockBytes;
  const uint32_t num_rows = (work.num_rows + kAtomRows - 1) / kAtomRows * kAtomRows;
  for (uint32_t at = 16 * (threadIdx.x % 128); at < num_rows * kBlockBytes; at += 16 * 128) {
    *reinterpret_cast<uint4*>(to + at) = *reinterpret_cast<const uint4*>(staging + at);
  }
}

}  // namespace
}  // namespace pregate::compute::cuda
