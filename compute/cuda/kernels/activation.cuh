// silu(gate) * up, and the sigmoid. Compiled with -fmad=false: products and sums are not fused.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace pregate::compute::cuda {
namespace {

/// e^x to within 2 units in the last place for x in [-87.3, 88.3]; above as 88.3, below 0. The same
/// polynomial as in compute/cpu/vector.h, for the same bits.
__device__ __forceinline__ float exponential(float x) {
  constexpr float kRound = 0x1.8p23f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const float bounded = x > 88.3f ? 88.3f : x;
  const float shifted = bounded * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (bounded - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const uint32_t exponent = (__float_as_uint(shifted) << 23) + (127u << 23);
  return x < -87.3f ? 0.0f : p * __uint_as_float(exponent);
}

/// For results that become bf16: a few instructions instead of forty, which would take a fifth of a
/// product's time.
__device__ __forceinline__ float rough_silu_times(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

__device__ __forceinline__ float silu_times(float gate, float up) {
  return gate / (1.0f + exponential(-gate)) * up;
}

}  // namespace
}  // namespace pregate::compute::cuda
