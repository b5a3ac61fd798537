// Norms: who sums up a group of numbers, and in which order. That depends on the width of the group
// alone, and not on how rows lie.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "compute/cuda/kernels/four.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/reduce.cuh"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kMaxBlockThreads = 1024;
/// Of so many numbers and less a warp is enough.
constexpr uint32_t kNarrowGroup = 512;

/// That sum up a group together.
constexpr uint32_t threads_of_norm(uint32_t width) {
  if (width <= kNarrowGroup) return 32;
  return min(kMaxBlockThreads, uint32_t(round_up(width / 4, 32)));
}

/// A thread of those that share a group: four columns each, again and again.
struct NormThread {
  uint32_t index, count;

  /// Weights come from far away, as nothing has read them since the step before.
  __device__ __forceinline__ void prefetch_weight(const float* weight, uint32_t width) const {
    for (uint32_t col = 4 * index; col < width; col += 4 * count) prefetch(weight + col);
  }

  /// The thread's part of it; load(col) gives four numbers, zero for those that are not there.
  template <typename Load>
  __device__ __forceinline__ float sum_squares(uint32_t width, Load load) const {
    float sum = 0.0f;
    for (uint32_t col = 4 * index; col < width; col += 4 * count) {
      const Four four = load(col);
      for (const float value : four.x) sum = __fmaf_rn(value, value, sum);
    }
    return sum;
  }
};

/// What numbers are multiplied with, by the sum of all squares.
__device__ __forceinline__ float norm_scale(float total, uint32_t width, float epsilon) {
  return 1.0f / sqrtf(total / float(width) + epsilon);
}

/// By a block of up to 32 warps. Zeros of more warps change nothing.
__device__ __forceinline__ float sum_of_block(float value) {
  __shared__ float parts[kMaxBlockThreads / 32];
  const uint32_t lane = threadIdx.x % 32;
  const float part = sum_of_warp(value);
  if (lane == 0) parts[threadIdx.x / 32] = part;
  __syncthreads();
  return sum_of_warp(lane < blockDim.x / 32 ? parts[lane] : 0.0f);
}

}  // namespace
}  // namespace pregate::compute::cuda
