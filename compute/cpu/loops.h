// How work is cut into pieces. None of the cuts changes a result.
#pragma once

#include <algorithm>
#include <cstddef>

#include "base/thread_pool.h"

namespace pregate::compute::cpu {

constexpr size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

/// Enough items for threads to even out, few enough that an item reads long runs of weights.
constexpr size_t panels_per_item(size_t num_panels, size_t num_threads) {
  return std::clamp<size_t>(num_panels / (8 * num_threads), 1, 8);
}

/// Calls body(first, count) for pieces of nearly equal size, at most `max_count`, that make up
/// [0, total).
template <typename Body>
void for_pieces(size_t total, size_t max_count, Body body) {
  const size_t num_pieces = divide_up(total, max_count);
  for (size_t i = 0; i < num_pieces; ++i) {
    const size_t first = total * i / num_pieces;
    body(first, total * (i + 1) / num_pieces - first);
  }
}

/// Calls body(row) for every row, on all threads where that pays: below some 10 us of work the
/// team is not worth waking.
template <typename Body>
void for_rows(ThreadPool& threads, size_t num_rows, size_t row_elements, Body body) {
  constexpr size_t kElementsPerTask = 16384;
  const size_t rows_per_task =
      std::max<size_t>(1, kElementsPerTask / std::max<size_t>(1, row_elements));
  threads.parallel_for(divide_up(num_rows, rows_per_task), [&](size_t task, size_t) {
    const size_t end = std::min((task + 1) * rows_per_task, num_rows);
    for (size_t row = task * rows_per_task; row < end; ++row) body(row);
  });
}

}  // namespace pregate::compute::cpu
