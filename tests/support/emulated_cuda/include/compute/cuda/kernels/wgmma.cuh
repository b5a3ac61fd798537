// In place of compute/cuda/kernels/wgmma.cuh where kernels are compiled for the processor.
#pragma once

#include <cstdint>

#include "tests/support/emulated_cuda/warpgroup.h"

namespace pregate::compute::cuda {
namespace {

template <int kCols>
struct Wgmma {
  static void add(float (&sums)[kCols / 2], uint64_t a, uint64_t b) {
    emulated::multiply_later(sums, kCols, a, b);
  }
};

}  // namespace
}  // namespace pregate::compute::cuda
