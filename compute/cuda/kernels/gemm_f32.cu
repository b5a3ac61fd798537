// f32 products, on the ordinary units: gates of routers, which a few rows go through and whose time
// is that of reading them, and experts kept in f32, to compare with. A block of threads takes eight
// outputs, so that a matrix of few outputs still occupies much of the device; its warps take every
// 16th k block each, and ask for weights long before they multiply with them. The order in which a
// product is summed up is always the same.
#include "compute/cuda/kernels/epilogue.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/reduce.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kMaxRows = 8;
constexpr uint32_t kOutputs = kAtomRows;
constexpr uint32_t kThreads = 512;
constexpr uint32_t kWarps = kThreads / 32;
/// Lanes that share an output, and chunks of a k block that each of them has.
constexpr uint32_t kLanes = 32 / kOutputs, kChunks = kBlockBytes / 16 / kLanes;

__device__ __forceinline__ float4 chunk_at(const std::byte* block, uint32_t row, uint32_t chunk) {
  return *reinterpret_cast<const float4*>(block + swizzled(row, 16 * chunk));
}

/// The rows of a block of threads, laid out or encoded.
class Rows {
 public:
  __device__ __forceinline__ Rows(const GemmArgs& args, const Work& work)
      : last_(work.num_rows - 1) {
    if (args.encoded == nullptr) {
      first_ = args.rows + size_t(work.first_row) * kBlockBytes;
      row_bytes_ = kBlockBytes;
      block_bytes_ = args.rows_stride * uint32_t(kBlockBytes);
      turned_ = kAtomRows - 1;
    } else {
      first_ = encoded_row(args, work.first_row);
      row_bytes_ = args.rows_blocks * uint32_t(kBlockBytes);
      block_bytes_ = kBlockBytes;
      turned_ = 0;
    }
  }

  /// Behind the last row is the last one again.
  __device__ __forceinline__ float4 at(uint32_t block, uint32_t row, uint32_t chunk) const {
    row = min(row, last_);
    return *reinterpret_cast<const float4*>(first_ + size_t(block) * block_bytes_ +
                                            row * row_bytes_ + 16 * (chunk ^ (row & turned_)));
  }

 private:
  const std::byte* first_;
  uint32_t block_bytes_;  // of a k block
  uint32_t row_bytes_;    // in it
  uint32_t turned_;       // which bits of a row's number turn its chunks
  const uint32_t last_;
};

__device__ __forceinline__ void add_products(float& sum, const float4& w, const float4& x) {
  sum = __fmaf_rn(w.x, x.x, sum);
  sum = __fmaf_rn(w.y, x.y, sum);
  sum = __fmaf_rn(w.z, x.z, sum);
  sum = __fmaf_rn(w.w, x.w, sum);
}

/// What a warp does: a part of eight outputs, or (kParts = 2) of as many of gate and of up.
template <uint32_t kParts, uint32_t kRows>
class Multiplier {
 public:
  static constexpr uint32_t kBlocksOfPanel = kPanelRows / kParts / kOutputs;

  __device__ __forceinline__ Multiplier(const GemmArgs& args, const GemmTile& tile,
                                        const Work& work)
      : tile_(tile),
        panel_(tile.weights + work.panel * tile.num_blocks * kPanelBlockBytes),
        rows_(args, work),
        output_(blockIdx.x % kBlocksOfPanel * kOutputs + threadIdx.x % 32 / kLanes),
        lane_(threadIdx.x % kLanes) {}

  __device__ __forceinline__ void multiply() {
    const uint32_t warp = threadIdx.x / 32;
    Weights weights[kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) weights[i] = load_weights(warp + i * kWarps);
    wait_for_kernels_before();
    Inputs inputs[kInputsAhead];
#pragma unroll
    for (uint32_t i = 0; i < kInputsAhead; ++i) inputs[i] = load_inputs(warp + i * kWarps);
    for (uint32_t first = warp; first < tile_.num_blocks; first += kAhead * kWarps) {
#pragma unroll
      for (uint32_t i = 0; i < kAhead; ++i) {
        const uint32_t block = first + i * kWarps;
        if (block < tile_.num_blocks) add(weights[i], inputs[i % kInputsAhead]);
        weights[i] = load_weights(block + kAhead * kWarps);
        inputs[i % kInputsAhead] = load_inputs(block + kInputsAhead * kWarps);
      }
    }
  }

  /// [warp][part][row][output]
  __device__ __forceinline__ void store(float* sums) const {
    float* to = sums + threadIdx.x / 32 * kParts * kRows * kOutputs + output_ % kOutputs;
#pragma unroll
    for (uint32_t i = 0; i < kParts * kRows; ++i, to += kOutputs) {
      const float sum = sum_of_lanes<kLanes>(sums_[i / kRows][i % kRows]);
      if (lane_ == 0) *to = sum;
    }
  }

 private:
  static constexpr size_t kPanelBlockBytes = panel_block_bytes(WeightFormat::kF32);  // of a k block
  /// K blocks that are on their way. Those of many rows take too many registers.
  static constexpr uint32_t kAhead = 4 / kParts, kInputsAhead = kRows == 1 ? kAhead : 1;

  struct Weights {
    float4 chunks[kParts][kChunks];
  };
  struct Inputs {
    float4 chunks[kRows][kChunks];
  };

  /// Zero where there is no such block, as are the inputs.
  __device__ __forceinline__ Weights load_weights(uint32_t block) const {
    Weights weights{};
    if (block >= tile_.num_blocks) return weights;
    const std::byte* const from = panel_ + block * kPanelBlockBytes;
#pragma unroll
    for (uint32_t i = 0; i < kParts * kChunks; ++i) {
      const uint32_t part = i / kChunks, c = i % kChunks;
      weights.chunks[part][c] = chunk_at(from, part * kHalfPanel + output_, c * kLanes + lane_);
    }
    return weights;
  }

  __device__ __forceinline__ Inputs load_inputs(uint32_t block) const {
    Inputs inputs{};
    if (block >= tile_.num_blocks) return inputs;
#pragma unroll
    for (uint32_t i = 0; i < kRows * kChunks; ++i) {
      const uint32_t row = i / kChunks, c = i % kChunks;
      inputs.chunks[row][c] = rows_.at(block, row, c * kLanes + lane_);
    }
    return inputs;
  }

  __device__ __forceinline__ void add(const Weights& weights, const Inputs& inputs) {
#pragma unroll
    for (uint32_t i = 0; i < kParts * kRows * kChunks; ++i) {
      const uint32_t part = i / kChunks / kRows, row = i / kChunks % kRows, c = i % kChunks;
      add_products(sums_[part][row], weights.chunks[part][c], inputs.chunks[row][c]);
    }
  }

  const GemmTile& tile_;
  const std::byte* const panel_;
  const Rows rows_;
  const uint32_t output_;  // of the panel
  const uint32_t lane_;    // of the output
  float sums_[kParts][kRows] = {};
};

/// All warps' sums of `index`: [part][row][output].
template <uint32_t kParts, uint32_t kRows>
__device__ __forceinline__ float add_up(const float* sums, uint32_t index) {
  float sum = 0.0f;
#pragma unroll
  for (uint32_t warp = 0; warp < kWarps; ++warp) {
    sum += sums[warp * kParts * kRows * kOutputs + index];
  }
  return sum;
}

/// A result by a thread.
template <uint32_t kParts, uint32_t kRows>
__device__ __forceinline__ void store(const GemmTarget& target, const Work& work,
                                      const float* sums) {
  const uint32_t row = threadIdx.x / kOutputs;
  if (row >= work.num_rows) return;
  const uint32_t col = blockIdx.x * kOutputs + threadIdx.x % kOutputs;
  float* const out =
      reinterpret_cast<float*>(target.out) + size_t(work.first_row + row) * target.out_stride + col;
  const float sum = add_up<kParts, kRows>(sums, threadIdx.x);
  if constexpr (kParts == 2) {
    *out = silu_times(sum, add_up<kParts, kRows>(sums, kRows * kOutputs + threadIdx.x));
  } else if (col < target.out_cols) {
    *out = target.bias == nullptr ? sum : sum + target.bias[col];
  }
}

template <uint32_t kParts, uint32_t kRows>
__global__ __launch_bounds__(kThreads) void gemm_f32(const __grid_constant__ GemmArgs args) {
  using M = Multiplier<kParts, kRows>;
  let_next_kernel_start();
  const GemmTile tile = tile_of(args, blockIdx.y);
  const uint32_t panel = blockIdx.x / M::kBlocksOfPanel, first = blockIdx.z * kRows;
  if (panel >= tile.num_panels || first >= tile.num_rows) return;
  const Work work{panel, tile.first_row + first, min(kRows, tile.num_rows - first)};
  M multiplier(args, tile, work);
  multiplier.multiply();
  auto* const sums = reinterpret_cast<float*>(dynamic_shared_memory());
  multiplier.store(sums);
  __syncthreads();
  store<kParts, kRows>(target_of(args, blockIdx.y), work, sums);
}

template <uint32_t kParts, uint32_t kRows>
cudaError_t launch(const GemmArgs& args, bool overlap, cudaStream_t stream) {
  const dim3 grid(args.max_panels * Multiplier<kParts, kRows>::kBlocksOfPanel, count_tiles(args),
                  uint32_t(divide_up(args.max_rows, kRows)));
  constexpr uint32_t kBytes = kWarps * kParts * kRows * kOutputs * sizeof(float);
  return launch_kernel<gemm_f32<kParts, kRows>>({grid, kThreads, kBytes, stream, overlap}, args);
}

template <uint32_t kParts>
cudaError_t launch_for_rows(const GemmArgs& args, bool overlap, cudaStream_t stream) {
  if (args.max_rows == 1) return launch<kParts, 1>(args, overlap, stream);
  return launch<kParts, kMaxRows>(args, overlap, stream);
}

}  // namespace

cudaError_t launch_gemm_f32(const GemmArgs& args, bool overlap, cudaStream_t stream) {
  if (args.output == GemmOutput::kNumbers) return launch_for_rows<1>(args, overlap, stream);
  return launch_for_rows<2>(args, overlap, stream);
}

}  // namespace pregate::compute::cuda
