// The largest number of each row. Rows are so long and so few that many blocks share one; whose
// number is the largest the host sees for itself, which takes less time than a second kernel.
#include <limits>

#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/row_part.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 256, kAtOnce = 2;

/// The largest number that a thread has seen, in the order of their columns.
struct Largest {
  float x = std::numeric_limits<float>::quiet_NaN();
  uint32_t col;

  __device__ __forceinline__ void see(float value, uint32_t at) {
    if (value != value || value <= x) return;
    x = value;
    col = at;
  }
};

/// 0 of a thread that has no column.
__device__ __forceinline__ uint64_t key_of_thread(const float* row, const Part& part) {
  Largest largest{.col = first_column(part, threadIdx.x)};
  if (largest.col >= part.end) return 0;
  see_part<kAtOnce>(row, part, threadIdx.x, kThreads,
                    [&](uint32_t col, float value) { largest.see(value, col); });
  return largest_key(largest.x, largest.col);
}

/// What thread 0 gets is the block's.
__device__ __forceinline__ uint64_t largest_of_block(uint64_t key) {
  __shared__ uint64_t keys[kThreads];
  keys[threadIdx.x] = key;
  for (uint32_t count = kThreads / 2; count > 0; count /= 2) {
    __syncthreads();
    if (threadIdx.x >= count) continue;
    const uint64_t other = keys[threadIdx.x + count];
    if (other > keys[threadIdx.x]) keys[threadIdx.x] = other;
  }
  return keys[threadIdx.x];
}

__device__ __forceinline__ void clear(DrawState::Tally& tally) {
  static_assert(sizeof(tally) % sizeof(uint64_t) == 0);
  auto* const words = reinterpret_cast<uint64_t*>(&tally);
  for (uint32_t i = threadIdx.x; i < sizeof(tally) / sizeof(*words); i += kThreads) words[i] = 0;
}

__global__ __launch_bounds__(kThreads) void find_largest(const __grid_constant__ LargestArgs args) {
  let_next_kernel_start();
  wait_for_kernels_before();
  const uint32_t part = blockIdx.x, row = blockIdx.y;
  if (part == 0 && args.states != nullptr) clear(args.states[row].tally);
  const float* const numbers = args.x + size_t(row) * args.stride;
  const uint64_t key =
      largest_of_block(key_of_thread(numbers, part_of(args.cols, kLargestParts, part)));
  if (threadIdx.x == 0) args.keys[size_t(row) * kLargestParts + part] = key;
}

}  // namespace

cudaError_t launch_find_largest(const LargestArgs& args, const DeviceInfo& device,
                                cudaStream_t stream) {
  const dim3 grid(kLargestParts, args.num_rows);
  return launch_kernel<find_largest>({grid, kThreads, 0, stream, can_overlap(device)}, args);
}

}  // namespace pregate::compute::cuda
