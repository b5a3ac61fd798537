// In place of CUDA's header of this name; see cuda_runtime.h beside it.
#pragma once

#include <cstdint>

#include "compute/number.h"

/// Two bf16, the first one in the lower half.
struct __nv_bfloat162 {
  uint32_t bits;
};

inline __nv_bfloat162 __floats2bfloat162_rn(float first, float second) {
  using pregate::compute::f32_to_bf16;
  return {uint32_t(f32_to_bf16(first)) | uint32_t(f32_to_bf16(second)) << 16};
}
