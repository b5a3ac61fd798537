// What attention() does on a device, worked out on the host: which queries go through which tokens
// together, and where the sums of each split are kept. Knows nothing of CUDA.
#pragma once

#include <span>
#include <vector>

#include "compute/backend.h"
#include "compute/cuda/attention_args.h"

namespace pregate::compute::cuda {

/// What a plan needs to know beside the sequences.
struct AttentionHeads {
  uint32_t group = 1;   ///< Query heads of a KV head.
  uint32_t window = 0;  ///< As AttentionOptions::window.
  bool operator==(const AttentionHeads&) const = default;
};

/// The tables that the kernels read. Rows are those of the sequences, one after the other.
struct AttentionPlan {
  std::vector<AttentionTile> tiles;
  std::vector<AttentionUnit> few, many;  ///< As AttentionArgs has them.
  std::vector<uint32_t> blocks;
  std::vector<uint32_t> first_partial;  ///< Of each row, and the end.
  uint32_t max_few = 0, max_many = 0;   ///< Queries of a tile.

  size_t num_rows() const { return first_partial.size() - 1; }
  size_t num_partials() const { return first_partial.back(); }
};

/// Splits some of which the row at `position` sees.
struct Splits {
  size_t first = 0, end = 0;
  size_t count() const { return end - first; }
};
Splits splits_of(size_t position, size_t window);

AttentionPlan plan_attention(std::span<const SequenceRows> sequences, const AttentionHeads& heads);

size_t count_rows(std::span<const SequenceRows> sequences);

/// What rows take of a device's memory: each some bytes, and some for each split that it sees.
struct RowCost {
  size_t row_bytes = 0, split_bytes = 0;
  size_t window = 0;
};

/// The sequences in parts that take at most `most_bytes` each, or are a single row.
std::vector<std::vector<SequenceRows>> cut_sequences(std::span<const SequenceRows> sequences,
                                                     const RowCost& cost, size_t most_bytes);

}  // namespace pregate::compute::cuda
