// A hash table whose keys are pairs of small numbers, made for the inner loop of BPE.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace pregate::model {

/// Open addressing in one array, so that a lookup touches one cache line as a rule. Keys are not
/// negative. Thread-safe to read.
template <typename Value>
class PairTable {
 public:
  /// Replaces what was there.
  void insert(int32_t left, int32_t right, Value value) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[slot_of(left, right)];
    if (slot.left == kFree) ++size_;
    slot = {left, right, value};
  }

  /// Null if the pair is not in the table.
  const Value* find(int32_t left, int32_t right) const {
    if (slots_.empty()) return nullptr;
    const Slot& slot = slots_[slot_of(left, right)];
    return slot.left == kFree ? nullptr : &slot.value;
  }

 private:
  static constexpr int32_t kFree = -1;
  static constexpr size_t kInitialSlots = 64;

  struct Slot {
    int32_t left = kFree;
    int32_t right = kFree;
    Value value{};
  };

  /// The slot of the pair, or the free one where it belongs.
  size_t slot_of(int32_t left, int32_t right) const {
    const uint64_t pair =
        (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
    const uint64_t product = pair * 0x9E3779B97F4A7C15;  // 2^64 / golden ratio
    const size_t mask = slots_.size() - 1;
    size_t slot = (product ^ (product >> 32)) & mask;
    while (slots_[slot].left != kFree &&
           (slots_[slot].left != left || slots_[slot].right != right)) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  void grow() {
    const size_t num_slots = slots_.empty() ? kInitialSlots : 2 * slots_.size();
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(num_slots));
    for (const Slot& slot : old) {
      if (slot.left != kFree) slots_[slot_of(slot.left, slot.right)] = slot;
    }
  }

  std::vector<Slot> slots_;  // the size is a power of two; at most half are used
  size_t size_ = 0;
};

}  // namespace pregate::model
