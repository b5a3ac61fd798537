// Rows on their way in and out of the products: laid out, encoded, and summed up again.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/encode.cuh"
#include "compute/cuda/kernels/four.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kChunksPerBlock = kBlockBytes / 16;

__global__ __launch_bounds__(kThreads) void fetch(const __grid_constant__ FetchArgs args) {
  const FetchArgs::Piece& piece = args.pieces[blockIdx.y];
  const uint32_t at = 16 * (blockIdx.x * kThreads + threadIdx.x);
  if (at >= piece.bytes) return;
  *reinterpret_cast<uint4*>(piece.to + at) = *reinterpret_cast<const uint4*>(piece.from + at);
}

/// The values of an encoded row, after its scales.
__device__ __forceinline__ const std::byte* values_of(const GatherArgs& args,
                                                      const std::byte* encoded) {
  return args.format == WeightFormat::kQ8 ? encoded + args.out_blocks * sizeof(float) : encoded;
}

/// 16 bytes of a row of `bytes`, of which the rest is zero. Rows of an odd number of bf16 begin at
/// a multiple of 2 only.
__device__ __forceinline__ uint4 read_chunk(const std::byte* row, uint32_t at, uint32_t bytes) {
  const std::byte* from = row + at;
  if (at + 16 <= bytes && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
    return *reinterpret_cast<const uint4*>(from);
  }
  uint16_t halves[8];
  for (uint32_t i = 0; i < 8; ++i) {
    halves[i] = at + 2 * i < bytes ? *reinterpret_cast<const uint16_t*>(from + 2 * i) : 0;
  }
  uint4 chunk;
  memcpy(&chunk, halves, sizeof(chunk));
  return chunk;
}

__global__ __launch_bounds__(kThreads) void gather(const __grid_constant__ GatherArgs args) {
  // In this order: kernels that follow read tables, which what was before has written, without
  // waiting.
  wait_for_kernels_before();
  let_next_kernel_start();
  const uint32_t row = blockIdx.x;
  const uint32_t source = args.source == nullptr ? row : args.source[row];
  if (source == kNoRow) return;
  const std::byte* encoded =
      args.encoded + size_t(source) * encoded_row_bytes(args.format, args.cols);
  const std::byte* values = values_of(args, encoded);
  const uint32_t bytes = args.format == WeightFormat::kQ8
                             ? args.out_blocks * kBlockBytes
                             : args.cols * uint32_t(element_bytes(args.format));
  for (uint32_t chunk = threadIdx.x; chunk < args.out_blocks * kChunksPerBlock; chunk += kThreads) {
    std::byte* to = args.out + size_t(chunk / kChunksPerBlock) * args.out_stride * kBlockBytes;
    *reinterpret_cast<uint4*>(to + swizzled(row, 16 * (chunk % kChunksPerBlock))) =
        read_chunk(values, 16 * chunk, bytes);
  }
  if (args.format != WeightFormat::kQ8) return;
  std::byte* scales = args.out + size_t(args.out_blocks) * args.out_stride * kBlockBytes;
  for (uint32_t block = threadIdx.x; block < args.out_blocks; block += kThreads) {
    reinterpret_cast<float*>(scales)[size_t(block) * args.out_stride + row] =
        reinterpret_cast<const float*>(encoded)[block];
  }
}

/// A group by a warp, four numbers a lane.
__device__ __forceinline__ void store_q8(const EncodeArgs& args, const Four& numbers, uint32_t row,
                                         uint32_t block) {
  const Q8Four encoded = encode_q8(numbers);
  const uint32_t lane = threadIdx.x % 32;
  const size_t first = size_t(block) * args.out_stride;
  std::byte* const to = args.out + first * kBlockBytes + swizzled(row, 4 * lane);
  *reinterpret_cast<uint32_t*>(to) = encoded.values;
  if (lane != 0) return;
  const size_t scales = size_t(args.out_blocks) * args.out_stride * kBlockBytes;
  reinterpret_cast<float*>(args.out + scales)[first + row] = encoded.scale;
}

__device__ __forceinline__ GemmTile tile_of(const EncodeArgs& args, uint32_t index) {
  if (args.tiles != nullptr) return args.tiles[index];
  const uint32_t first_row = index * args.max_rows;
  return {.first_row = first_row,
          .num_rows = min(args.max_rows, args.num_rows - first_row),
          .num_panels = args.numbers_stride / uint32_t(kHalfPanel)};
}

/// 128 numbers by a warp: one k block of q8, four of f32.
__global__ __launch_bounds__(kThreads) void encode(const __grid_constant__ EncodeArgs args) {
  let_next_kernel_start();
  wait_for_kernels_before();
  const GemmTile tile = tile_of(args, blockIdx.y);
  const uint32_t row_of_tile = blockIdx.z * (kThreads / 32) + threadIdx.x / 32;
  if (row_of_tile >= tile.num_rows) return;
  const uint32_t row = tile.first_row + row_of_tile;
  const uint32_t col = blockIdx.x * 128 + threadIdx.x % 32 * 4;
  Four numbers{};
  if (col < tile.num_panels * uint32_t(kHalfPanel)) {
    numbers =
        *reinterpret_cast<const Four*>(args.numbers + size_t(row) * args.numbers_stride + col);
  }
  if (args.format == WeightFormat::kQ8) {
    store_q8(args, numbers, row, blockIdx.x);
  } else if (const uint32_t block = col / 32; block < args.out_blocks) {
    std::byte* to = args.out + size_t(block) * args.out_stride * kBlockBytes;
    *reinterpret_cast<Four*>(to + swizzled(row, 4 * (col % 32))) = numbers;
  }
}

/// Four columns a thread. Rows of products are padded to whole panels, so four can be read always.
__global__ __launch_bounds__(kThreads) void combine(const __grid_constant__ CombineArgs args) {
  let_next_kernel_start();
  wait_for_kernels_before();
  const uint32_t row = blockIdx.x;
  const uint32_t col = 4 * (blockIdx.y * kThreads + threadIdx.x);
  if (col >= args.cols) return;
  Four sum{};
  for (uint32_t i = args.first[row]; i < args.first[row + 1]; ++i) {
    const float gate = args.gates[i];
    const Four product = *reinterpret_cast<const Four*>(
        args.products + size_t(args.rows[i]) * args.products_stride + col);
    for (uint32_t c = 0; c < 4; ++c) sum.x[c] += gate * product.x[c];
  }
  store_four(args.out + size_t(row) * args.cols + col, sum, args.cols - col);
}

}  // namespace

cudaError_t launch_fetch(const FetchArgs& args, cudaStream_t stream) {
  uint32_t most_bytes = 0;
  for (const FetchArgs::Piece& piece : args.pieces) most_bytes = max(most_bytes, piece.bytes);
  const dim3 grid(uint32_t(divide_up(most_bytes, 16 * kThreads)), args.num_pieces);
  return launch_kernel<fetch>({.grid = grid, .num_threads = kThreads, .stream = stream}, args);
}

cudaError_t launch_gather(const GatherArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  return launch_kernel<gather>({dim3(args.num_rows), kThreads, 0, stream, can_overlap(device)},
                               args);
}

cudaError_t launch_encode(const EncodeArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  const size_t blocks_per_warp = args.format == WeightFormat::kQ8 ? 1 : 4;
  const dim3 grid(uint32_t(divide_up(args.out_blocks, blocks_per_warp)), args.num_tiles,
                  uint32_t(divide_up(args.max_rows, kThreads / 32)));
  return launch_kernel<encode>({grid, kThreads, 0, stream, can_overlap(device)}, args);
}

cudaError_t launch_combine(const CombineArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  const dim3 grid(args.num_rows, uint32_t(divide_up(args.cols, 4 * kThreads)));
  return launch_kernel<combine>({grid, kThreads, 0, stream, can_overlap(device)}, args);
}

}  // namespace pregate::compute::cuda
