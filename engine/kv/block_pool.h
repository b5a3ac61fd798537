// Who uses which block of the paged KV cache, and what finished blocks can be used again.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "compute/backend.h"

namespace pregate::engine {

/// Blocks are counted, so several sequences may share one. A full block can be published under its
/// tokens and its predecessor; it stays findable while in use and, after its last user is gone,
/// until its room is needed (least recently used first). Exact: keys hold the tokens themselves.
/// Not thread-safe.
class BlockPool {
 public:
  /// Names the contents of a published block, for as long as the process runs. kRoot is the empty
  /// prefix.
  using ContentId = uint64_t;
  static constexpr ContentId kRoot = 0;

  BlockPool(size_t num_blocks, bool prefix_caching);

  size_t num_blocks() const { return blocks_.size(); }
  /// Blocks that allocate() can still give out, published but unused ones included.
  size_t num_free() const { return free_.size(); }
  bool prefix_caching() const { return prefix_caching_; }

  /// A block with one user; nothing if none is free.
  std::optional<uint32_t> allocate();
  void release(uint32_t block);

  struct Published {
    uint32_t block = 0;
    ContentId content = kRoot;
  };
  /// The block that holds `tokens` (kKvBlockTokens of them) after `parent`; the caller becomes one
  /// of its users.
  std::optional<Published> find(ContentId parent, std::span<const TokenId> tokens);
  /// Makes a full block findable; if there is one with the same contents already, that one stays.
  /// Returns the contents' id.
  ContentId publish(uint32_t block, ContentId parent, std::span<const TokenId> tokens);

 private:
  struct Key {
    ContentId parent = kRoot;
    std::array<TokenId, compute::kKvBlockTokens> tokens{};
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };
  struct Block {
    uint32_t num_users = 0;
    std::optional<Key> key;                       // if published
    std::list<uint32_t>::iterator free_position;  // valid while num_users == 0
  };

  static Key make_key(ContentId parent, std::span<const TokenId> tokens);

  const bool prefix_caching_;
  std::vector<Block> blocks_;
  std::list<uint32_t> free_;  // front: next to be given out
  std::unordered_map<Key, Published, KeyHash> published_;
  ContentId last_content_ = kRoot;
};

/// The blocks of one sequence, in order of position. Release before destruction.
class BlockTable {
 public:
  std::span<const uint32_t> blocks() const { return blocks_; }

  /// Takes what is published of `tokens` (full blocks from the start, at most `max_tokens` tokens)
  /// into an empty table; returns how many tokens that is.
  size_t take_prefix(BlockPool& pool, std::span<const TokenId> tokens, size_t max_tokens);
  /// Makes room for `num_tokens` tokens in all. False, and nothing changed, if the pool has not
  /// enough.
  bool reserve(BlockPool& pool, size_t num_tokens);
  /// Publishes the blocks that the first `num_computed` of `tokens` fill.
  void publish(BlockPool& pool, std::span<const TokenId> tokens, size_t num_computed);
  void release(BlockPool& pool);

 private:
  std::vector<uint32_t> blocks_;
  size_t num_published_ = 0;  // leading blocks that are published
  BlockPool::ContentId last_content_ = BlockPool::kRoot;
};

}  // namespace pregate::engine
