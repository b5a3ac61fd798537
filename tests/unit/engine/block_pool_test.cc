#include "engine/kv/block_pool.h"

#include <numeric>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::engine {
namespace {

std::vector<TokenId> tokens_from(TokenId first, size_t count) {
  std::vector<TokenId> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// As the scheduler does it: reserve, compute, publish.
BlockTable computed(BlockPool& pool, std::span<const TokenId> tokens) {
  BlockTable table;
  EXPECT_TRUE(table.reserve(pool, tokens.size()));
  table.publish(pool, tokens, tokens.size());
  return table;
}

TEST(BlockPool, ReservesAllOrNothing) {
  BlockPool pool(3, true);
  BlockTable table;
  EXPECT_TRUE(table.reserve(pool, 17));
  EXPECT_EQ(table.blocks().size(), 2u);
  BlockTable other;
  EXPECT_FALSE(other.reserve(pool, 17));
  EXPECT_TRUE(other.blocks().empty());
  EXPECT_EQ(pool.num_free(), 1u);
  table.release(pool);
  EXPECT_TRUE(other.reserve(pool, 48));
  other.release(pool);
  EXPECT_EQ(pool.num_free(), 3u);
}

TEST(BlockPool, SharesFullBlocksOfACommonPrefix) {
  BlockPool pool(8, true);
  const auto tokens = tokens_from(0, 40);
  BlockTable first = computed(pool, tokens);

  auto same_start = tokens;
  same_start[33] = 999;  // in the third block
  BlockTable second;
  EXPECT_EQ(second.take_prefix(pool, same_start, 39), 32u);
  EXPECT_EQ(second.blocks()[0], first.blocks()[0]);
  EXPECT_EQ(second.blocks()[1], first.blocks()[1]);
  first.release(pool);
  second.release(pool);
  EXPECT_EQ(pool.num_free(), 8u);
}

TEST(BlockPool, TheSameTokensAfterOtherOnesAreOtherContents) {
  BlockPool pool(8, true);
  auto tokens = tokens_from(0, 32);
  BlockTable first = computed(pool, tokens);
  tokens[0] = 77;
  BlockTable second;
  EXPECT_EQ(second.take_prefix(pool, tokens, 32), 0u);
  first.release(pool);
}

TEST(BlockPool, KeepsWhatNobodyUsesUntilItsRoomIsNeeded) {
  BlockPool pool(4, true);
  const auto old_tokens = tokens_from(0, 32), new_tokens = tokens_from(100, 32);
  computed(pool, old_tokens).release(pool);
  computed(pool, new_tokens).release(pool);
  EXPECT_EQ(pool.num_free(), 4u);

  BlockTable big;
  EXPECT_TRUE(big.reserve(pool, 16));  // takes the end of the older one
  BlockTable table;
  EXPECT_EQ(table.take_prefix(pool, old_tokens, 32), 16u);
  table.release(pool);
  EXPECT_EQ(table.take_prefix(pool, new_tokens, 32), 32u);
  table.release(pool);
  big.release(pool);
}

TEST(BlockPool, TakesNoMoreThanAskedFor) {
  BlockPool pool(4, true);
  const auto tokens = tokens_from(0, 32);
  computed(pool, tokens).release(pool);
  BlockTable table;
  EXPECT_EQ(table.take_prefix(pool, tokens, 31), 16u);
  table.release(pool);
}

TEST(BlockPool, WithoutPrefixCachingNothingIsFound) {
  BlockPool pool(4, false);
  const auto tokens = tokens_from(0, 32);
  computed(pool, tokens).release(pool);
  BlockTable table;
  EXPECT_EQ(table.take_prefix(pool, tokens, 32), 0u);
}

// Random users against a plain model: what is found must hold exactly the tokens asked for.
TEST(BlockPool, NeverServesOtherContentsThanAskedFor) {
  constexpr size_t kBlocks = 12;
  BlockPool pool(kBlocks, true);
  Random random(3);
  std::vector<std::vector<TokenId>> contents(kBlocks);  // whole prefix up to the block's end
  for (int round = 0; round < 5000; ++round) {
    std::vector<TokenId> tokens(16 * (1 + random.next_below(4)));
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = i % 16 == 0 ? static_cast<TokenId>(random.next_below(3)) : 0;
    }
    BlockTable table;
    const size_t cached = table.take_prefix(pool, tokens, tokens.size());
    for (size_t b = 0; b < cached / 16; ++b) {
      const std::vector<TokenId> prefix(tokens.begin(), tokens.begin() + (b + 1) * 16);
      ASSERT_EQ(contents[table.blocks()[b]], prefix);
    }
    ASSERT_TRUE(table.reserve(pool, tokens.size()));
    for (size_t b = cached / 16; b < tokens.size() / 16; ++b) {
      contents[table.blocks()[b]].assign(tokens.begin(), tokens.begin() + (b + 1) * 16);
    }
    table.publish(pool, tokens, tokens.size());
    table.release(pool);
    ASSERT_EQ(pool.num_free(), kBlocks);
  }
}

}  // namespace
}  // namespace pregate::engine
