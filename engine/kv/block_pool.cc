#include "engine/kv/block_pool.h"

#include <algorithm>

#include "base/check.h"

namespace pregate::engine {

using compute::kKvBlockTokens;

BlockPool::BlockPool(size_t num_blocks, bool prefix_caching)
    : prefix_caching_(prefix_caching), blocks_(num_blocks) {
  for (uint32_t b = 0; b < num_blocks; ++b) {
    blocks_[b].free_position = free_.insert(free_.end(), b);
  }
}

std::optional<uint32_t> BlockPool::allocate() {
  if (free_.empty()) return std::nullopt;
  const uint32_t index = free_.front();
  free_.pop_front();
  Block& block = blocks_[index];
  if (block.key) {
    published_.erase(*block.key);
    block.key.reset();
  }
  block.num_users = 1;
  return index;
}

void BlockPool::release(uint32_t index) {
  Block& block = blocks_.at(index);
  PREGATE_CHECK(block.num_users > 0);
  if (--block.num_users > 0) return;
  // What nobody can find again is given out first.
  block.free_position = free_.insert(block.key ? free_.end() : free_.begin(), index);
}

std::optional<BlockPool::Published> BlockPool::find(ContentId parent,
                                                    std::span<const TokenId> tokens) {
  if (!prefix_caching_) return std::nullopt;
  const auto found = published_.find(make_key(parent, tokens));
  if (found == published_.end()) return std::nullopt;
  Block& block = blocks_[found->second.block];
  if (block.num_users++ == 0) free_.erase(block.free_position);
  return found->second;
}

BlockPool::ContentId BlockPool::publish(uint32_t index, ContentId parent,
                                        std::span<const TokenId> tokens) {
  PREGATE_CHECK(blocks_.at(index).num_users > 0);
  if (!prefix_caching_) return kRoot;
  const Key key = make_key(parent, tokens);
  const auto [entry, inserted] = published_.try_emplace(key, Published{index, last_content_ + 1});
  if (inserted) {
    ++last_content_;
    blocks_[index].key = key;
  }
  return entry->second.content;
}

BlockPool::Key BlockPool::make_key(ContentId parent, std::span<const TokenId> tokens) {
  PREGATE_CHECK(tokens.size() == kKvBlockTokens);
  Key key{parent, {}};
  std::copy(tokens.begin(), tokens.end(), key.tokens.begin());
  return key;
}

size_t BlockPool::KeyHash::operator()(const Key& key) const {
  uint64_t hash = key.parent * 0x9e3779b97f4a7c15ull;
  for (const TokenId token : key.tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0xff51afd7ed558ccdull;
    hash ^= hash >> 32;
  }
  return hash;
}

size_t BlockTable::take_prefix(BlockPool& pool, std::span<const TokenId> tokens,
                               size_t max_tokens) {
  PREGATE_CHECK(blocks_.empty());
  const size_t limit = std::min(tokens.size(), max_tokens) / kKvBlockTokens;
  while (blocks_.size() < limit) {
    const auto found =
        pool.find(last_content_, tokens.subspan(blocks_.size() * kKvBlockTokens, kKvBlockTokens));
    if (!found) break;
    blocks_.push_back(found->block);
    last_content_ = found->content;
  }
  num_published_ = blocks_.size();
  return blocks_.size() * kKvBlockTokens;
}

bool BlockTable::reserve(BlockPool& pool, size_t num_tokens) {
  const size_t needed = (num_tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  if (needed > blocks_.size() && needed - blocks_.size() > pool.num_free()) return false;
  while (blocks_.size() < needed) blocks_.push_back(*pool.allocate());
  return true;
}

void BlockTable::publish(BlockPool& pool, std::span<const TokenId> tokens, size_t num_computed) {
  if (!pool.prefix_caching()) return;
  for (; (num_published_ + 1) * kKvBlockTokens <= num_computed; ++num_published_) {
    last_content_ = pool.publish(blocks_.at(num_published_), last_content_,
                                 tokens.subspan(num_published_ * kKvBlockTokens, kKvBlockTokens));
  }
}

void BlockTable::release(BlockPool& pool) {
  // From the end, so that the start of a prefix, useful to more requests, is given out last.
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) pool.release(*block);
  blocks_.clear();
  num_published_ = 0;
  last_content_ = BlockPool::kRoot;
}

}  // namespace pregate::engine
