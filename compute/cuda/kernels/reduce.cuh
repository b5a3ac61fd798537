// What the lanes of a warp have, put together: all lanes call, and all get it.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace pregate::compute::cuda {
namespace {

/// Of `kLanes` neighbouring lanes, to the bit the same in each of them.
template <uint32_t kLanes>
__device__ __forceinline__ float sum_of_lanes(float value) {
  for (uint32_t mask = kLanes / 2; mask > 0; mask /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, int32_t(mask));
  }
  return value;
}

__device__ __forceinline__ float sum_of_warp(float value) { return sum_of_lanes<32>(value); }

__device__ __forceinline__ float largest_of_warp(float value) {
  for (uint32_t mask = 16; mask > 0; mask /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, int32_t(mask)));
  }
  return value;
}

}  // namespace
}  // namespace pregate::compute::cuda
