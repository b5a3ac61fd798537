// The largest number of each row. Rows are so long and so few that many blocks share one; whose
// number is the largest the host sees for itself, which takes less time than a second kernel.
#include <limits>

#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/four.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 256;

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

/// Of the columns from `first` to `end`, the thread's share; 0 if it has none.
__device__ __forceinline__ uint64_t key_of_thread(const float* row, uint32_t first, uint32_t end) {
  uint32_t col = first + 4 * threadIdx.x;
  if (col >= end) return 0;
  Largest largest{.col = col};
  for (; col < end; col += 4 * kThreads) {
    const Four four = load_four(row + col, end - col);
    for (uint32_t i = 0; i < 4; ++i) {
      if (col + i < end) largest.see(four.x[i], col + i);
    }
  }
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

/// Parts begin at multiples of four columns, as load_four() likes it.
__global__ __launch_bounds__(kThreads) void find_largest(const __grid_constant__ LargestArgs args) {
  let_next_kernel_start();
  wait_for_kernels_before();
  const uint32_t part = blockIdx.x, row = blockIdx.y;
  const auto width = uint32_t(round_up(divide_up(args.cols, kLargestParts), 4));
  const uint32_t first = min(part * width, args.cols), end = min(first + width, args.cols);
  const uint64_t key =
      largest_of_block(key_of_thread(args.x + size_t(row) * args.stride, first, end));
  if (threadIdx.x == 0) args.keys[size_t(row) * kLargestParts + part] = key;
}

}  // namespace

cudaError_t launch_find_largest(const LargestArgs& args, const DeviceInfo& device,
                                cudaStream_t stream) {
  const dim3 grid(kLargestParts, args.num_rows);
  return launch_kernel<find_largest>({grid, kThreads, 0, stream, can_overlap(device)}, args);
}

}  // namespace pregate::compute::cuda
