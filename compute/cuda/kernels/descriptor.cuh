// How products of warpgroups are told where a matrix lies (PTX ISA, chapter 9: matrix descriptors).
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace pregate::compute::cuda {
namespace {

/// Of a matrix in shared memory at a multiple of 1024, rows of 128 bytes, swizzled.
__device__ __forceinline__ uint64_t matrix_descriptor(uint32_t address) {
  constexpr uint64_t kSwizzle128 = 1ull << 62, kAtomStride = (8 * 128 / 16ull) << 32;
  constexpr uint64_t kLeadingUnused = 1ull << 16;
  return kSwizzle128 | kAtomStride | kLeadingUnused | ((address & 0x3ffff) >> 4);
}

}  // namespace
}  // namespace pregate::compute::cuda
