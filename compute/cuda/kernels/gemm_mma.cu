// bf16, q8, q4 and f8 products on every device from sm_80 on: four warps multiply one panel with a
// tile of rows, through a ring of stages that all threads fill. Integer sums of a group are exact
// and the f32 operations per group are those of the CPU kernels, in the same order: q8 gives the
// same bits, and so does q4, whose codes become int8 on their way from shared memory into
// registers. There codes of f8 become bf16, exactly.
#include <type_traits>

#include "compute/cuda/kernels/epilogue.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 128;

/// A piece of a panel, and the same k blocks of rows.
template <WeightFormat kFormat, int kCols>
struct Stage {
  static constexpr bool kScaled = has_scales(kFormat);
  static constexpr uint32_t kBlocks = piece_blocks(kFormat);
  static constexpr uint32_t kPanelBytes = panel_block_bytes(kFormat);
  static constexpr uint32_t kRowBytes = kCols * kBlockBytes;
  static constexpr uint32_t kScaleBytes = kScaled ? kCols * sizeof(float) : 0;
  static constexpr uint32_t kBytes = round_up(kPanelBytes + kBlocks * kRowBytes + kScaleBytes, 128);
  /// Of the ring: as many as devices of 8.6 and 8.9 have memory for.
  static constexpr uint32_t kCount = kBlocks == 1 ? 4 : 3;
  static_assert(kCount * kBytes <= 99 * 1024);
  static_assert(kPanelBytes % 16 == 0, "what is copied at once");
};

/// `bytes` of them, which lie together.
__device__ __forceinline__ void copy_together(uint32_t to, const std::byte* from, uint32_t bytes) {
  for (uint32_t at = 16 * threadIdx.x; at < bytes; at += 16 * kThreads) {
    copy_async_16(to + at, from + at);
  }
}

/// Of a panel.
template <WeightFormat kFormat>
__device__ __forceinline__ uint32_t num_pieces(const GemmTile& tile) {
  return uint32_t(divide_up(tile.num_blocks, piece_blocks(kFormat)));
}

/// The last piece of a panel may have more k blocks than the rows, behind which there is anything.
template <WeightFormat kFormat>
__device__ __forceinline__ uint32_t blocks_of_piece(const GemmTile& tile, uint32_t piece) {
  constexpr uint32_t kBlocks = piece_blocks(kFormat);
  return min(kBlocks, tile.num_blocks - kBlocks * piece);
}

template <WeightFormat kFormat, int kCols>
__device__ __forceinline__ void fetch_weights(const GemmTile& tile, const Work& work,
                                              uint32_t piece, uint32_t stage) {
  constexpr uint32_t kBytes = Stage<kFormat, kCols>::kPanelBytes;
  const size_t panel_piece = size_t(work.panel) * num_pieces<kFormat>(tile) + piece;
  copy_together(stage, tile.weights + panel_piece * kBytes, kBytes);
}

/// Address of row `row`, 16-byte chunk `chunk` of what begins at `base`.
__device__ __forceinline__ uint32_t chunk_address(uint32_t base, uint32_t row, uint32_t chunk) {
  return base + row * kBlockBytes + ((chunk ^ (row % kAtomRows)) * 16);
}

/// Of a tile of few rows. A chunk by a thread.
template <WeightFormat kFormat>
__device__ __forceinline__ void fetch_encoded_rows(const GemmArgs& args, const GemmTile& tile,
                                                   const Work& work, uint32_t piece,
                                                   uint32_t stage) {
  using S = Stage<kFormat, kAtomRows>;
  constexpr uint32_t kChunks = kBlockBytes / 16;
  static_assert(kAtomRows * kChunks <= kThreads);
  const uint32_t to = stage + S::kPanelBytes;
  const uint32_t row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
  if (row < work.num_rows) {
    const size_t scale_bytes = S::kScaled ? args.rows_blocks * sizeof(float) : 0;
    const std::byte* from = encoded_row(args, work.first_row + row) + scale_bytes +
                            size_t(S::kBlocks * piece) * kBlockBytes + 16 * chunk;
    for (uint32_t i = 0; i < blocks_of_piece<kFormat>(tile, piece); ++i, from += kBlockBytes) {
      copy_async_16(chunk_address(to + i * S::kRowBytes, row, chunk), from);
    }
  }
  if (S::kScaled && threadIdx.x < work.num_rows) {
    copy_async_4(to + S::kRowBytes + threadIdx.x * sizeof(float),
                 encoded_row(args, work.first_row + threadIdx.x) + piece * sizeof(float));
  }
}

template <WeightFormat kFormat, int kCols>
__device__ __forceinline__ void fetch_rows(const GemmArgs& args, const GemmTile& tile,
                                           const Work& work, uint32_t piece, uint32_t stage) {
  using S = Stage<kFormat, kCols>;
  if constexpr (kCols == kAtomRows) {
    if (args.encoded != nullptr) {
      return fetch_encoded_rows<kFormat>(args, tile, work, piece, stage);
    }
  }
  uint32_t to = stage + S::kPanelBytes;
  for (uint32_t i = 0; i < blocks_of_piece<kFormat>(tile, piece); ++i, to += S::kRowBytes) {
    const size_t row = size_t(S::kBlocks * piece + i) * args.rows_stride + work.first_row;
    copy_together(to, args.rows + row * kBlockBytes, S::kRowBytes);
  }
  if constexpr (S::kScaled) {
    const size_t scales = size_t(args.rows_blocks) * args.rows_stride * kBlockBytes;
    const size_t row = size_t(piece) * args.rows_stride + work.first_row;
    copy_together(to, args.rows + scales + row * sizeof(float), S::kScaleBytes);
  }
}

/// Fragments of a warp's outputs: 16 of the panel's lower half and 16 of its upper one.
class StoredWeights {
 public:
  __device__ __forceinline__ StoredWeights(const uint8_t* panel, uint32_t warp)
      : panel_(shared_address(panel)),
        row_(16 * warp + threadIdx.x % 16),
        chunk_(threadIdx.x % 32 / 16) {}

  /// Of step `step`: 32 bytes.
  __device__ __forceinline__ void load(uint32_t step, uint32_t (&low)[4],
                                       uint32_t (&high)[4]) const {
    load_matrices_4(low, chunk_address(panel_, row_, 2 * step + chunk_));
    load_matrices_4(high, chunk_address(panel_, 64 + row_, 2 * step + chunk_));
  }

 private:
  const uint32_t panel_, row_, chunk_;
};

/// Four codes, as code - kQ4SmallestCode, times a factor: int8. A product takes no more than its
/// byte, so that one multiplication makes four; what is then subtracted must not borrow from the
/// next byte, which its highest bit prevents.
__device__ __forceinline__ uint32_t times_factor(uint32_t codes, uint32_t factor) {
  constexpr uint32_t kHighest = 0x80808080u, kEach = 0x01010101u;
  const uint32_t products = codes * factor, offsets = uint32_t(-kQ4SmallestCode) * factor * kEach;
  return ((products | kHighest) - offsets) ^ (~products & kHighest);
}

/// The same of codes in kQ4: a lane reads all that it needs of a k block at once, and makes its
/// part of each fragment itself.
class Q4Weights {
 public:
  __device__ __forceinline__ Q4Weights(const uint8_t* panel, uint32_t warp) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t output = 16 * warp + lane / 4 + i % 2 * 8 + i / 2 * 64;
      const uint4 codes =
          *reinterpret_cast<const uint4*>(panel + q4_code_at(output, 4 * (lane % 4)));
      codes_[i][0] = codes.x, codes_[i][1] = codes.y;
      codes_[i][2] = codes.z, codes_[i][3] = codes.w;
      factors_[i] = reinterpret_cast<const uint32_t*>(panel + kQ4FactorsAt)[output];
    }
  }

  __device__ __forceinline__ void load(uint32_t step, uint32_t (&low)[4],
                                       uint32_t (&high)[4]) const {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {  // 16 inputs of both outputs, and the next 16
      low[i] = four(i % 2, step, i / 2);
      high[i] = four(2 + i % 2, step, i / 2);
    }
  }

 private:
  __device__ __forceinline__ uint32_t four(uint32_t output, uint32_t step, uint32_t half) const {
    return times_factor(codes_[output][step] >> (4 * half) & 0x0f0f0f0fu,
                        factors_[output] >> (4 * (2 * step + half)) & 0xfu);
  }

  uint32_t codes_[4][4];
  uint32_t factors_[4];
};

/// Two codes in E4M3, each in the upper half of its 16 bits, as bf16: sign and magnitude are moved
/// into place, and a product puts the exponent right.
__device__ __forceinline__ uint32_t f8_to_bf16(uint32_t codes) {
  constexpr uint32_t kSigns = 0x80008000u, kMagnitudes = 0x07f007f0u, kTwoTo120 = 0x7b807b80u;
  return multiply_pairs((codes & kSigns) | (codes >> 4 & kMagnitudes), kTwoTo120);
}

/// The same of codes in kF8, of one of two k blocks.
class F8Weights {
 public:
  __device__ __forceinline__ F8Weights(const uint8_t* panel, uint32_t warp, uint32_t block) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t input = block * uint32_t(block_inputs(WeightFormat::kF8)) + 2 * (lane % 4);
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t output = 16 * warp + lane / 4 + i % 2 * 8 + i / 2 * 64;
      const uint4 codes = *reinterpret_cast<const uint4*>(panel + f8_code_at(output, input));
      codes_[i][0] = codes.x, codes_[i][1] = codes.y;
      codes_[i][2] = codes.z, codes_[i][3] = codes.w;
    }
  }

  __device__ __forceinline__ void load(uint32_t step, uint32_t (&low)[4],
                                       uint32_t (&high)[4]) const {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {  // 8 inputs of both outputs, and the next 8
      low[i] = two(i % 2, step, i / 2);
      high[i] = two(2 + i % 2, step, i / 2);
    }
  }

 private:
  __device__ __forceinline__ uint32_t two(uint32_t output, uint32_t step, uint32_t half) const {
    return f8_to_bf16(__byte_perm(codes_[output][step], 0, half == 0 ? 0x1404 : 0x3424));
  }

  uint32_t codes_[4][4];
};

template <WeightFormat kFormat>
__device__ __forceinline__ float panel_scale(const uint8_t* panel, uint32_t output) {
  if constexpr (kFormat == WeightFormat::kQ4) {
    const auto* scales = reinterpret_cast<const uint16_t*>(panel + kQ4ScalesAt);
    return __uint_as_float(uint32_t(scales[output]) << 16);
  } else {
    return reinterpret_cast<const float*>(panel + kScalesAt)[output];
  }
}

template <int kCols, typename Weights, typename Sum, typename Multiply>
__device__ __forceinline__ void multiply_block(const Weights& weights, uint32_t rows,
                                               Sum (&low)[kCols / 2], Sum (&high)[kCols / 2],
                                               Multiply multiply) {
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (uint32_t step = 0; step < 4; ++step) {
    uint32_t a_low[4], a_high[4];
    weights.load(step, a_low, a_high);
#pragma unroll
    for (uint32_t j = 0; j < kCols / 8; ++j) {
      uint32_t b[2];
      load_matrices_2(b, chunk_address(rows, 8 * j + lane % 8, 2 * step + lane / 8 % 2));
      multiply(low + 4 * j, a_low, b[0], b[1]);
      multiply(high + 4 * j, a_high, b[0], b[1]);
    }
  }
}

/// Adds the integer sums of a group, scaled.
template <WeightFormat kFormat, int kCols>
__device__ __forceinline__ void add_int8_piece(const uint8_t* stage, uint32_t warp,
                                               float (&low)[kCols / 2], float (&high)[kCols / 2]) {
  using S = Stage<kFormat, kCols>;
  using Weights = std::conditional_t<kFormat == WeightFormat::kQ4, Q4Weights, StoredWeights>;
  const uint32_t rows = shared_address(stage) + S::kPanelBytes;
  int32_t low_dots[kCols / 2] = {}, high_dots[kCols / 2] = {};
  multiply_block<kCols>(Weights(stage, warp), rows, low_dots, high_dots, multiply_int8);
  const auto* row_scales = reinterpret_cast<const float*>(stage + S::kPanelBytes + S::kRowBytes);
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (uint32_t i = 0; i < kCols / 2; ++i) {
    const uint32_t output = 16 * warp + lane / 4 + (i & 2 ? 8 : 0);
    const float scale = row_scales[i / 4 * 8 + 2 * (lane % 4) + (i & 1)];
    low[i] += float(low_dots[i]) * (panel_scale<kFormat>(stage, output) * scale);
    high[i] += float(high_dots[i]) * (panel_scale<kFormat>(stage, 64 + output) * scale);
  }
}

/// Adds the sums of a group, scaled.
template <int kCols>
__device__ __forceinline__ void add_f8_piece(const uint8_t* stage, uint32_t num_blocks,
                                             uint32_t warp, float (&low)[kCols / 2],
                                             float (&high)[kCols / 2]) {
  using S = Stage<WeightFormat::kF8, kCols>;
  const uint32_t rows = shared_address(stage) + S::kPanelBytes;
  float low_dots[kCols / 2] = {}, high_dots[kCols / 2] = {};
  for (uint32_t block = 0; block < num_blocks; ++block) {
    multiply_block<kCols>(F8Weights(stage, warp, block), rows + block * S::kRowBytes, low_dots,
                          high_dots, multiply_bf16);
  }
  const uint32_t first_output = 16 * warp + threadIdx.x % 32 / 4;
#pragma unroll
  for (uint32_t i = 0; i < kCols / 2; ++i) {
    const uint32_t output = first_output + (i & 2 ? 8 : 0);
    low[i] += low_dots[i] * panel_scale<WeightFormat::kF8>(stage, output);
    high[i] += high_dots[i] * panel_scale<WeightFormat::kF8>(stage, 64 + output);
  }
}

/// num_blocks: of rows.
template <WeightFormat kFormat, int kCols>
__device__ __forceinline__ void add_piece(const uint8_t* stage, uint32_t num_blocks, uint32_t warp,
                                          float (&low)[kCols / 2], float (&high)[kCols / 2]) {
  if constexpr (kFormat == WeightFormat::kBf16) {
    const uint32_t rows = shared_address(stage) + Stage<kFormat, kCols>::kPanelBytes;
    multiply_block<kCols>(StoredWeights(stage, warp), rows, low, high, multiply_bf16);
  } else if constexpr (kFormat == WeightFormat::kF8) {
    add_f8_piece<kCols>(stage, num_blocks, warp, low, high);
  } else {
    add_int8_piece<kFormat, kCols>(stage, warp, low, high);
  }
}

template <WeightFormat kFormat, GemmOutput kOutput, int kCols>
__device__ __forceinline__ void store(const GemmTarget& target, const Work& work, uint32_t warp,
                                      const float (&low)[kCols / 2],
                                      const float (&high)[kCols / 2]) {
  if constexpr (kOutput == GemmOutput::kNumbers) {
    store_numbers<kCols>(target, work, warp, low, high);
  } else if constexpr (arithmetic_of(kFormat) == WeightFormat::kBf16) {
    store_bf16_activations<kCols>(target, work, warp, low, high);
  } else {
    store_f32_activations<kCols>(target, work, warp, low, high);
  }
}

template <WeightFormat kFormat, GemmOutput kOutput, int kCols>
__global__ __launch_bounds__(kThreads) void gemm_mma(const __grid_constant__ GemmArgs args) {
  uint8_t* const memory = dynamic_shared_memory();
  using S = Stage<kFormat, kCols>;
  let_next_kernel_start();
  const GemmTile tile = tile_of(args, blockIdx.y);
  const uint32_t first = blockIdx.z * kCols;
  if (blockIdx.x >= tile.num_panels || first >= tile.num_rows) return;
  const Work work{blockIdx.x, tile.first_row + first, min(uint32_t(kCols), tile.num_rows - first)};
  const uint32_t warp = threadIdx.x / 32;
  const uint32_t pieces = num_pieces<kFormat>(tile);
  const auto stage_of = [&](uint32_t piece) {
    return shared_address(memory) + piece % S::kCount * S::kBytes;
  };
  const auto weights_of = [&](uint32_t piece) {
    if (piece < pieces) fetch_weights<kFormat, kCols>(tile, work, piece, stage_of(piece));
  };
  const auto rows_of = [&](uint32_t piece) {
    if (piece < pieces) fetch_rows<kFormat, kCols>(args, tile, work, piece, stage_of(piece));
    commit_copies();  // an empty group keeps the count right
  };
  // Weights come first, before the kernel that made the rows has ended.
  for (uint32_t piece = 0; piece + 1 < S::kCount; ++piece) weights_of(piece);
  wait_for_kernels_before();
  for (uint32_t piece = 0; piece + 1 < S::kCount; ++piece) rows_of(piece);
  float low[kCols / 2] = {}, high[kCols / 2] = {};
  for (uint32_t piece = 0; piece < pieces; ++piece) {
    wait_for_copies<S::kCount - 2>();
    __syncthreads();
    weights_of(piece + S::kCount - 1);
    rows_of(piece + S::kCount - 1);
    add_piece<kFormat, kCols>(memory + piece % S::kCount * S::kBytes,
                              blocks_of_piece<kFormat>(tile, piece), warp, low, high);
  }
  store<kFormat, kOutput, kCols>(target_of(args, blockIdx.y), work, warp, low, high);
}

template <WeightFormat kFormat, GemmOutput kOutput, int kCols>
cudaError_t launch(const GemmArgs& args, bool overlap, cudaStream_t stream) {
  const dim3 grid(args.max_panels, count_tiles(args), uint32_t(divide_up(args.max_rows, kCols)));
  using S = Stage<kFormat, kCols>;
  const uint32_t bytes = S::kCount * S::kBytes;
  return launch_kernel<gemm_mma<kFormat, kOutput, kCols>>({grid, kThreads, bytes, stream, overlap},
                                                          args);
}

template <WeightFormat kFormat, GemmOutput kOutput>
cudaError_t launch_for_rows(const GemmArgs& args, bool overlap, cudaStream_t stream) {
  if (args.max_rows <= 8) return launch<kFormat, kOutput, 8>(args, overlap, stream);
  if (args.max_rows <= 32) return launch<kFormat, kOutput, 32>(args, overlap, stream);
  return launch<kFormat, kOutput, 64>(args, overlap, stream);
}

template <WeightFormat kFormat>
cudaError_t launch_for_output(const GemmArgs& args, bool overlap, cudaStream_t stream) {
  if (args.output == GemmOutput::kNumbers) {
    return launch_for_rows<kFormat, GemmOutput::kNumbers>(args, overlap, stream);
  }
  return launch_for_rows<kFormat, GemmOutput::kActivations>(args, overlap, stream);
}

}  // namespace

cudaError_t launch_gemm_mma(const GemmArgs& args, bool overlap, cudaStream_t stream) {
  switch (args.format) {
    case WeightFormat::kBf16:
      return launch_for_output<WeightFormat::kBf16>(args, overlap, stream);
    case WeightFormat::kQ8:
      return launch_for_output<WeightFormat::kQ8>(args, overlap, stream);
    case WeightFormat::kQ4:
      return launch_for_output<WeightFormat::kQ4>(args, overlap, stream);
    case WeightFormat::kF8:
      return launch_for_output<WeightFormat::kF8>(args, overlap, stream);
    case WeightFormat::kF32:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace pregate::compute::cuda
