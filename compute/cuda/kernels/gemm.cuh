// Between launch.cu, which chooses a kernel, and the files of the kernels.
#pragma once

#include <array>
#include <atomic>
#include <mutex>

#include <cuda_runtime.h>

#include "compute/cuda/args.h"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {

// Of what they are given, a table's tiles are those of one map, which has no weights of its own.

cudaError_t launch_gemm_f32(const GemmArgs& args, bool overlap, cudaStream_t stream);
/// bf16, q8, q4 and f8, from sm_80 on.
cudaError_t launch_gemm_mma(const GemmArgs& args, bool overlap, cudaStream_t stream);
/// bf16, sm_90 only.
cudaError_t launch_gemm_wgmma(const GemmArgs& args, const DeviceInfo& device, cudaStream_t stream);

/// Whether the code for sm_90a runs: on 9.0 only, not on what came after it.
inline bool is_hopper(const DeviceInfo& device) { return device.major == 9; }

/// Only that code waits where it must (wait_for_kernels_before()).
inline bool can_overlap(const DeviceInfo& device) { return is_hopper(device); }

/// Of all maps.
inline uint32_t count_tiles(const GemmArgs& args) { return args.num_maps * args.num_tiles; }

struct Launch {
  dim3 grid;
  uint32_t num_threads = 0;
  uint32_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
  /// Whether it may begin before the kernel before it has ended.
  bool overlap = false;
};

/// What a kernel must be given once on each device.
template <auto kKernel>
cudaError_t prepare(uint32_t shared_bytes) {
  static std::array<std::atomic<uint32_t>, 64> prepared{};  // bytes allowed, and 1, by device
  static std::mutex mutex;  // who allows less must not come after who allows more
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  std::atomic<uint32_t>& known = prepared[size_t(device) % prepared.size()];
  if (known.load(std::memory_order_acquire) > shared_bytes) return cudaSuccess;
  const std::scoped_lock lock(mutex);
  if (known.load(std::memory_order_relaxed) > shared_bytes) return cudaSuccess;
  const auto* kernel = reinterpret_cast<const void*>(kKernel);
  if (const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes))) {
    return error;
  }
  // All alike: between kernels that cut the first-level cache differently a multiprocessor must
  // become empty, and no kernel could begin before the one before it has ended.
  if (const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared)) {
    return error;
  }
  known.store(shared_bytes + 1, std::memory_order_release);
  return cudaSuccess;
}

template <auto kKernel, typename... Args>
cudaError_t launch_kernel(const Launch& launch, const Args&... args) {
  if (const cudaError_t error = prepare<kKernel>(launch.shared_bytes)) return error;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = launch.grid;
  config.blockDim = dim3(launch.num_threads);
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = launch.stream;
  config.attrs = &attribute;
  config.numAttrs = launch.overlap ? 1 : 0;
  return cudaLaunchKernelEx(&config, kKernel, args...);
}

namespace {

/// Where the row begins that a product fetches as row `row`.
__device__ __forceinline__ const std::byte* encoded_row(const GemmArgs& args, uint32_t row) {
  return args.encoded + size_t(row) * args.rows_blocks * encoded_block_bytes(args.format);
}

/// Tile `index` of a product: those of a map, and then those of the next.
__device__ __forceinline__ GemmTile tile_of(const GemmArgs& args, uint32_t index) {
  if (args.tiles != nullptr) return args.tiles[index];
  const GemmMap& map = args.maps[index / args.num_tiles];
  const uint32_t first_row = index % args.num_tiles * args.max_rows;
  return {.weights = map.weights,
          .first_row = first_row,
          .num_rows = min(args.max_rows, args.num_rows - first_row),
          .num_panels = map.num_panels,
          .num_blocks = args.rows_blocks};
}

/// Where the products of tile `index` go. What is read of it where it is takes no registers.
__device__ __forceinline__ const GemmTarget& target_of(const GemmArgs& args, uint32_t index) {
  return args.maps[index / args.num_tiles].target;
}

}  // namespace
}  // namespace pregate::compute::cuda
