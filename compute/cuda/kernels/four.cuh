// Four neighbouring numbers of a row, which a thread takes care of. Rows may begin anywhere and be
// of any width: where the four lie together at a multiple of 16 they are read and written at once.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "compute/number.h"

namespace pregate::compute::cuda {
namespace {

struct alignas(16) Four {
  float x[4];
};

__device__ __forceinline__ bool lie_together(const float* numbers, uint32_t count) {
  return count >= 4 && reinterpret_cast<uintptr_t>(numbers) % sizeof(Four) == 0;
}

/// Of `count` numbers the first four; zero for those that are not there.
__device__ __forceinline__ Four load_four(const float* from, uint32_t count) {
  if (lie_together(from, count)) return *reinterpret_cast<const Four*>(from);
  Four four{};
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < count) four.x[i] = from[i];
  }
  return four;
}

/// The first `count` of them, if there are fewer than four.
__device__ __forceinline__ void store_four(float* to, const Four& four, uint32_t count) {
  if (lie_together(to, count)) {
    *reinterpret_cast<Four*>(to) = four;
    return;
  }
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < count) to[i] = four.x[i];
  }
}

/// The same, rounded to bf16. Rows of an odd number of them begin at a multiple of 2 only.
__device__ __forceinline__ void store_bf16(uint16_t* to, const Four& four, uint32_t count) {
  struct alignas(8) Rounded {
    uint16_t x[4];
  } rounded;
  for (uint32_t i = 0; i < 4; ++i) rounded.x[i] = f32_to_bf16(four.x[i]);
  if (count >= 4 && reinterpret_cast<uintptr_t>(to) % sizeof(Rounded) == 0) {
    *reinterpret_cast<Rounded*>(to) = rounded;
    return;
  }
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < count) to[i] = rounded.x[i];
  }
}

}  // namespace
}  // namespace pregate::compute::cuda
