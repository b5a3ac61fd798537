// f32 products, on the ordinary units: for experts kept in f32, to compare with; not fast.
// Each thread sums one output of a panel, input by input, for eight rows.
#include "compute/cuda/kernels/epilogue.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kRows = 8;
constexpr uint32_t kThreads = kPanelRows;
constexpr uint32_t kHalf = kHalfPanel;

__device__ __forceinline__ float4 chunk_at(const void* block, uint32_t row, uint32_t chunk) {
  return *reinterpret_cast<const float4*>(static_cast<const std::byte*>(block) +
                                          swizzled(row, 16 * chunk));
}

__device__ __forceinline__ void add_products(float& sum, const float4& w, const float4& x) {
  sum = __fmaf_rn(w.x, x.x, sum);
  sum = __fmaf_rn(w.y, x.y, sum);
  sum = __fmaf_rn(w.z, x.z, sum);
  sum = __fmaf_rn(w.w, x.w, sum);
}

__device__ __forceinline__ void store_activations(const GemmArgs& args, const Work& work,
                                                  const float (&sums)[kRows]) {
  __shared__ float up[kRows][kHalf];
  const uint32_t output = threadIdx.x % kHalf;
  if (threadIdx.x >= kHalf) {
    for (uint32_t r = 0; r < kRows; ++r) up[r][output] = sums[r];
  }
  __syncthreads();
  if (threadIdx.x >= kHalf) return;
  auto* out = reinterpret_cast<float*>(args.out) + work.panel * kHalf + output;
  for (uint32_t r = 0; r < work.num_rows; ++r) {
    out[size_t(work.first_row + r) * args.out_stride] = silu_times(sums[r], up[r][output]);
  }
}

__device__ __forceinline__ void store(const GemmArgs& args, const Work& work,
                                      const float (&sums)[kRows]) {
  const uint32_t col = work.panel * kPanelRows + threadIdx.x;
  if (col >= args.out_cols) return;
  auto* out = reinterpret_cast<float*>(args.out) + col;
  for (uint32_t r = 0; r < work.num_rows; ++r) {
    out[size_t(work.first_row + r) * args.out_stride] =
        args.bias == nullptr ? sums[r] : sums[r] + args.bias[col];
  }
}

__global__ __launch_bounds__(kThreads) void gemm_f32(const __grid_constant__ GemmArgs args) {
  __shared__ float4 rows[kRows * kBlockBytes / 16];
  let_next_kernel_start();
  const GemmTile tile = args.tiles[blockIdx.y];
  const uint32_t first = blockIdx.z * kRows;
  if (blockIdx.x >= tile.num_panels || first >= tile.num_rows) return;
  const Work work{blockIdx.x, tile.first_row + first, min(kRows, tile.num_rows - first)};
  wait_for_kernels_before();
  const std::byte* panel =
      tile.weights + work.panel * panel_bytes(WeightFormat::kF32, tile.num_blocks * 32);
  float sums[kRows] = {};
  for (uint32_t block = 0; block < tile.num_blocks; ++block) {
    const size_t row = size_t(block) * args.rows_stride + work.first_row;
    const auto* from = reinterpret_cast<const float4*>(args.rows + row * kBlockBytes);
    if (threadIdx.x < kRows * kBlockBytes / 16) rows[threadIdx.x] = from[threadIdx.x];
    __syncthreads();
    const std::byte* weights = panel + block * panel_block_bytes(WeightFormat::kF32);
    for (uint32_t chunk = 0; chunk < kBlockBytes / 16; ++chunk) {
      const float4 w = chunk_at(weights, threadIdx.x, chunk);
#pragma unroll
      for (uint32_t r = 0; r < kRows; ++r) add_products(sums[r], w, chunk_at(rows, r, chunk));
    }
    __syncthreads();
  }
  if (args.output == GemmOutput::kActivations) {
    store_activations(args, work, sums);
  } else {
    store(args, work, sums);
  }
}

}  // namespace

cudaError_t launch_gemm_f32(const GemmArgs& args, bool overlap, cudaStream_t stream) {
  const dim3 grid(args.max_panels, args.num_tiles, uint32_t(divide_up(args.max_rows, kRows)));
  return launch_kernel<gemm_f32>({grid, kThreads, 0, stream, overlap}, args);
}

}  // namespace pregate::compute::cuda
