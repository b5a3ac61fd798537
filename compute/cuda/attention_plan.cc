#include "compute/cuda/attention_plan.h"

#include <algorithm>

#include "compute/cuda/kv_layout.h"

namespace pregate::compute::cuda {
namespace {

class Planner {
 public:
  explicit Planner(const AttentionHeads& heads) : heads_(heads) { plan_.first_partial = {0}; }

  void add(const SequenceRows& sequence) {
    const AttentionTile all{.first_row = uint32_t(plan_.num_rows()),
                            .first_position = uint32_t(sequence.first_position),
                            .first_block = uint32_t(plan_.blocks.size()),
                            .num_queries = uint32_t(sequence.num_rows) * heads_.group};
    const size_t num_blocks =
        divide_up(sequence.first_position + sequence.num_rows, kKvBlockTokens);
    const auto blocks = sequence.blocks.first(num_blocks);
    plan_.blocks.insert(plan_.blocks.end(), blocks.begin(), blocks.end());
    for (size_t i = 0; i < sequence.num_rows; ++i) {
      const Splits splits = splits_of(sequence.first_position + i, heads_.window);
      plan_.first_partial.push_back(plan_.first_partial.back() + uint32_t(splits.count()));
    }
    for (uint32_t first = 0; first < all.num_queries; first += kMaxTileQueries) {
      AttentionTile tile = all;
      tile.first_query = first;
      tile.num_queries = std::min(kMaxTileQueries, all.num_queries - first);
      add(tile);
    }
  }

  AttentionPlan take() { return std::move(plan_); }

 private:
  void add(const AttentionTile& tile) {
    const bool is_few = tile.num_queries <= kFewQueries;
    uint32_t& largest = is_few ? plan_.max_few : plan_.max_many;
    largest = std::max(largest, tile.num_queries);
    const auto index = uint32_t(plan_.tiles.size());
    const size_t first_row = tile.first_query / heads_.group;
    const size_t last_row = (tile.first_query + tile.num_queries - 1) / heads_.group;
    const Splits first = splits_of(tile.first_position + first_row, heads_.window);
    const Splits last = splits_of(tile.first_position + last_row, heads_.window);
    for (size_t split = first.first; split < last.end; ++split) {
      (is_few ? plan_.few : plan_.many).push_back({index, uint32_t(split)});
    }
    plan_.tiles.push_back(tile);
  }

  const AttentionHeads heads_;
  AttentionPlan plan_;
};

/// The first rows of a sequence, and what comes after them.
SequenceRows take_rows(SequenceRows& rest, size_t count) {
  SequenceRows taken = rest;
  taken.num_rows = count;
  rest.first_row += count;
  rest.num_rows -= count;
  rest.first_position += count;
  return taken;
}

}  // namespace

Splits splits_of(size_t position, size_t window) {
  const size_t end = position + 1;
  const size_t first = window > 0 && end > window ? end - window : 0;
  return {first / kSplitTokens, divide_up(end, kSplitTokens)};
}

AttentionPlan plan_attention(std::span<const SequenceRows> sequences, const AttentionHeads& heads) {
  Planner planner(heads);
  for (const SequenceRows& sequence : sequences) planner.add(sequence);
  return planner.take();
}

size_t count_rows(std::span<const SequenceRows> sequences) {
  size_t num_rows = 0;
  for (const SequenceRows& sequence : sequences) num_rows += sequence.num_rows;
  return num_rows;
}

std::vector<std::vector<SequenceRows>> cut_sequences(std::span<const SequenceRows> sequences,
                                                     const RowCost& cost, size_t most_bytes) {
  std::vector<std::vector<SequenceRows>> parts;
  size_t sum = 0;
  for (SequenceRows rest : sequences) {
    while (rest.num_rows > 0) {
      size_t count = 0;
      for (; count < rest.num_rows; ++count) {
        const Splits splits = splits_of(rest.first_position + count, cost.window);
        const size_t bytes = cost.row_bytes + splits.count() * cost.split_bytes;
        const bool is_first = count == 0 && (parts.empty() || sum == 0);
        if (sum + bytes > most_bytes && !is_first) break;
        sum += bytes;
      }
      if (parts.empty()) parts.emplace_back();
      if (count > 0) parts.back().push_back(take_rows(rest, count));
      if (rest.num_rows == 0) break;
      parts.emplace_back();
      sum = 0;
    }
  }
  return parts;
}

}  // namespace pregate::compute::cuda
