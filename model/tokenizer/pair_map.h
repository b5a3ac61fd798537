// The merge table of BPE: from a pair of tokens to the token they become.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"

namespace pregate::model {

struct Merge {
  uint32_t rank;  ///< Lower merges first.
  TokenId merged;
};

/// A hash table with open addressing in one array: a lookup, the inner step of encoding, touches
/// one cache line as a rule. Thread-safe to read.
class PairMap {
 public:
  /// Replaces what was there.
  void insert(TokenId left, TokenId right, Merge merge);
  const Merge* find(TokenId left, TokenId right) const;
  size_t size() const { return size_; }

 private:
  struct Slot {
    TokenId left = -1;  // -1: free
    TokenId right = -1;
    Merge merge{};
  };
  /// The slot of the pair, or the free one where it belongs.
  size_t slot_of(TokenId left, TokenId right) const;
  void grow();

  std::vector<Slot> slots_;  // the size is a power of two; at most half are used
  size_t size_ = 0;
};

}  // namespace pregate::model
