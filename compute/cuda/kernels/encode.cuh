// How numbers are encoded for products: the same bits as compute/cpu/encode.h makes.
#pragma once

#include "compute/cuda/kernels/four.cuh"
#include "compute/types.h"

namespace pregate::compute::cuda {
namespace {

/// The largest magnitude of a warp's numbers, as bits: those of a NaN or infinity exceed all.
__device__ __forceinline__ int32_t largest_magnitude(const Four& numbers) {
  int32_t largest = 0;
  for (const float value : numbers.x) largest = max(largest, __float_as_int(value) & 0x7fffffff);
  return __reduce_max_sync(0xffffffffu, largest);
}

__device__ __forceinline__ uint32_t quantized(float x, float scale) {
  float quotient = x / scale;
  quotient = quotient > 127.0f ? 127.0f : quotient;
  quotient = quotient < -127.0f ? -127.0f : quotient;
  return __float_as_uint(quotient + 0x1.8p23f) & 0xff;  // rounded to nearest even
}

struct Q8Four {
  uint32_t values;  ///< A byte each.
  float scale;      ///< Of the group.
};

/// By a warp, whose lanes have a group.
__device__ __forceinline__ Q8Four encode_q8(const Four& numbers) {
  static_assert(kQ8Group == 4 * 32, "four numbers a lane");
  const int32_t largest = largest_magnitude(numbers);
  const bool finite = largest < 0x7f800000;
  Q8Four encoded{0, finite ? __int_as_float(largest) / 127.0f : __int_as_float(0x7fc00000)};
  if (!finite || encoded.scale == 0.0f) return encoded;
  for (uint32_t i = 0; i < 4; ++i) {
    encoded.values |= quantized(numbers.x[i], encoded.scale) << (8 * i);
  }
  return encoded;
}

}  // namespace
}  // namespace pregate::compute::cuda
