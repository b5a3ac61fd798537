#include "model/tokenizer/pair_map.h"

#include <utility>

namespace pregate::model {
namespace {

constexpr size_t kInitialSlots = 64;

uint64_t hash_of(TokenId left, TokenId right) {
  const uint64_t pair =
      (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
  const uint64_t product = pair * 0x9E3779B97F4A7C15;  // 2^64 / golden ratio
  return product ^ (product >> 32);
}

}  // namespace

size_t PairMap::slot_of(TokenId left, TokenId right) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash_of(left, right) & mask;
  while (slots_[slot].left != -1 && (slots_[slot].left != left || slots_[slot].right != right)) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

void PairMap::insert(TokenId left, TokenId right, Merge merge) {
  if (2 * (size_ + 1) > slots_.size()) grow();
  Slot& slot = slots_[slot_of(left, right)];
  if (slot.left == -1) ++size_;
  slot = {left, right, merge};
}

const Merge* PairMap::find(TokenId left, TokenId right) const {
  if (slots_.empty()) return nullptr;
  const Slot& slot = slots_[slot_of(left, right)];
  return slot.left == -1 ? nullptr : &slot.merge;
}

void PairMap::grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.empty() ? kInitialSlots : 2 * old.size(), Slot{});
  for (const Slot& slot : old) {
    if (slot.left != -1) slots_[slot_of(slot.left, slot.right)] = slot;
  }
}

}  // namespace pregate::model
