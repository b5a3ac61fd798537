// Parts of a row that blocks share (draw_args.h).
#pragma once

#include <cstdint>

#include "compute/cuda/kernels/four.cuh"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {
namespace {

struct Part {
  uint32_t first, end;  // columns
};

/// A multiple of four columns, as load_four() likes parts to begin.
__device__ __forceinline__ uint32_t part_width(uint32_t cols, uint32_t num_parts) {
  return uint32_t(round_up(divide_up(cols, num_parts), 4));
}

__device__ __forceinline__ Part part_of(uint32_t cols, uint32_t num_parts, uint32_t index) {
  const uint32_t width = part_width(cols, num_parts), first = min(index * width, cols);
  return {first, min(first + width, cols)};
}

/// Of the four columns that thread `thread` has first.
__device__ __forceinline__ uint32_t first_column(const Part& part, uint32_t thread) {
  return part.first + 4 * thread;
}

/// Calls `see` with the thread's columns of the part and their numbers, in order: `num_threads`
/// threads take turns at four columns. Before it sees any, a thread has asked for kAtOnce fours.
template <uint32_t kAtOnce, typename See>
__device__ __forceinline__ void see_part(const float* row, const Part& part, uint32_t thread,
                                         uint32_t num_threads, const See& see) {
  const uint32_t step = 4 * num_threads;
  for (uint32_t col = first_column(part, thread); col < part.end; col += kAtOnce * step) {
    Four fours[kAtOnce]{};
    for (uint32_t i = 0; i < kAtOnce; ++i) {
      const uint32_t at = col + i * step;
      if (at < part.end) fours[i] = load_four(row + at, part.end - at);
    }
    for (uint32_t i = 0; i < 4 * kAtOnce; ++i) {
      const uint32_t at = col + i / 4 * step + i % 4;
      if (at < part.end) see(at, fours[i / 4].x[i % 4]);
    }
  }
}

}  // namespace
}  // namespace pregate::compute::cuda
