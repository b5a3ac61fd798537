#include "compute/cuda/attention_plan.h"

#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "compute/cuda/kv_layout.h"

namespace pregate::compute::cuda {
namespace {

std::vector<uint32_t> some_blocks(size_t count) {
  std::vector<uint32_t> blocks(count);
  std::iota(blocks.begin(), blocks.end(), 100u);
  return blocks;
}

TEST(AttentionPlan, SplitsAreWhereTheWindowAndThePositionSay) {
  constexpr size_t kSplit = kSplitTokens;
  const auto expect = [](const Splits& splits, size_t first, size_t end) {
    EXPECT_EQ(splits.first, first);
    EXPECT_EQ(splits.end, end);
  };
  expect(splits_of(0, 0), 0, 1);
  expect(splits_of(kSplit - 1, 0), 0, 1);
  expect(splits_of(kSplit, 0), 0, 2);
  expect(splits_of(kSplit, 1), 1, 2);
  expect(splits_of(kSplit, 2), 0, 2);
  expect(splits_of(5 * kSplit, kSplit), 4, 6);
  expect(splits_of(5 * kSplit - 1, kSplit), 4, 5);
}

TEST(AttentionPlan, EachQueryMeetsEachOfItsSplitsOnce) {
  const auto blocks = some_blocks(60);
  const std::vector<SequenceRows> sequences{
      {0, 3, 400, blocks}, {3, 1, 300, blocks}, {4, 45, 90, blocks}};
  for (const uint32_t group : {1, 3, 8, 40}) {
    for (const uint32_t window : {0, 1, 100, 200}) {
      const AttentionPlan plan = plan_attention(sequences, {group, window});
      ASSERT_EQ(plan.num_rows(), 49u);
      std::map<std::pair<size_t, size_t>, size_t> met;  // query and split: how often
      const auto count = [&](const AttentionUnit& unit) {
        const AttentionTile& tile = plan.tiles[unit.tile];
        for (uint32_t i = 0; i < tile.num_queries; ++i) {
          const size_t query = tile.first_query + i;
          const Splits splits = splits_of(tile.first_position + query / group, window);
          if (unit.split < splits.first || unit.split >= splits.end) continue;
          ++met[{tile.first_row * group + query, unit.split}];
        }
      };
      for (const AttentionUnit& unit : plan.few) {
        EXPECT_LE(plan.tiles[unit.tile].num_queries, std::min(kFewQueries, plan.max_few));
        count(unit);
      }
      for (const AttentionUnit& unit : plan.many) {
        EXPECT_GT(plan.tiles[unit.tile].num_queries, kFewQueries);
        EXPECT_LE(plan.tiles[unit.tile].num_queries, std::min(kMaxTileQueries, plan.max_many));
        count(unit);
      }
      EXPECT_EQ(met.size(), plan.num_partials() * group);
      for (const auto& [place, times] : met) EXPECT_EQ(times, 1u);
    }
  }
}

TEST(AttentionPlan, BlocksAreThoseUpToTheLastPosition) {
  const auto blocks = some_blocks(60);
  const std::vector<SequenceRows> sequences{{0, 2, 15, blocks}, {2, 1, 15, blocks}};
  const AttentionPlan plan = plan_attention(sequences, {});
  EXPECT_EQ(plan.blocks, (std::vector<uint32_t>{100, 101, 100}));
  ASSERT_EQ(plan.tiles.size(), 2u);
  EXPECT_EQ(plan.tiles[1].first_block, 2u);
  EXPECT_EQ(plan.tiles[1].first_row, 2u);
}

TEST(CutSequences, PartsFitUnlessTheyAreARow) {
  const auto blocks = some_blocks(60);
  const std::vector<SequenceRows> sequences{
      {7, 300, 10, blocks}, {307, 1, 700, blocks}, {400, 60, 0, blocks}};
  const RowCost cost{.row_bytes = 10, .split_bytes = 100, .window = 0};
  for (const size_t most : {0, 110, 500, 5000, 1000000}) {
    std::vector<size_t> rows, positions;
    for (const auto& part : cut_sequences(sequences, cost, most)) {
      size_t bytes = 0, num_rows = 0;
      for (const SequenceRows& piece : part) {
        EXPECT_GT(piece.num_rows, 0u);
        for (size_t i = 0; i < piece.num_rows; ++i, ++num_rows) {
          rows.push_back(piece.first_row + i);
          positions.push_back(piece.first_position + i);
          bytes += 10 + 100 * splits_of(piece.first_position + i, 0).count();
        }
      }
      EXPECT_TRUE(bytes <= most || num_rows == 1) << bytes << " bytes, " << num_rows << " rows";
    }
    std::vector<size_t> all_rows, all_positions;
    for (const SequenceRows& sequence : sequences) {
      for (size_t i = 0; i < sequence.num_rows; ++i) {
        all_rows.push_back(sequence.first_row + i);
        all_positions.push_back(sequence.first_position + i);
      }
    }
    EXPECT_EQ(rows, all_rows);
    EXPECT_EQ(positions, all_positions);
  }
  EXPECT_EQ(cut_sequences(sequences, cost, 1000000).size(), 1u);
  EXPECT_TRUE(cut_sequences({}, cost, 100).empty());
}

}  // namespace
}  // namespace pregate::compute::cuda
