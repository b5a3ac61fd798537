// What was kept of a sequence's latest row, found again in a later step.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>

#include "compute/backend.h"

namespace pregate::router {

/// Sequences have no names here; their KV blocks have: no two sequences have different tokens up to
/// a position and the same block for it. What a sequence leaves behind is overwritten when its
/// blocks are used anew.
template <typename T>
class SequenceMemory {
 public:
  /// Of the last of these rows.
  void remember(const compute::SequenceRows& rows, T value) {
    // Forgetting costs a guess; a table as large as the KV cache would cost memory.
    if (entries_.size() >= kMaxEntries) entries_.clear();
    const size_t position = rows.first_position + rows.num_rows - 1;
    entries_[key_of(rows, position)] = {position, std::move(value)};
  }

  /// Of the row before the first of these; null: unknown. Until the next remember().
  const T* recall(const compute::SequenceRows& rows) const {
    if (rows.first_position == 0) return nullptr;
    const size_t position = rows.first_position - 1;
    const auto found = entries_.find(key_of(rows, position));
    if (found == entries_.end() || found->second.position != position) return nullptr;
    return &found->second.value;
  }

 private:
  static constexpr size_t kMaxEntries = 4096;
  struct Entry {
    size_t position = 0;
    T value;
  };

  static uint64_t key_of(const compute::SequenceRows& rows, size_t position) {
    constexpr size_t kBlock = compute::kKvBlockTokens;
    return uint64_t{rows.blocks[position / kBlock]} * kBlock + position % kBlock;
  }

  std::unordered_map<uint64_t, Entry> entries_;
};

}  // namespace pregate::router
