#include "compute/cuda/slices.h"

#include <numeric>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::compute::cuda {
namespace {

/// Tasks with their lists: `num_tasks` of them, each with some rows of out, some of them twice.
struct ScatteredTasks {
  ScatteredTasks(size_t num_tasks, size_t num_out_rows, uint64_t seed)
      : rows(num_tasks), out_rows(num_tasks), gates(num_tasks) {
    Random random(seed);
    for (size_t t = 0; t < num_tasks; ++t) {
      for (size_t i = random.next_below(2 * num_out_rows + 1); i > 0; --i) {
        rows[t].push_back(static_cast<uint32_t>(random.next_below(100)));
        out_rows[t].push_back(static_cast<uint32_t>(random.next_below(num_out_rows)));
        gates[t].push_back(static_cast<float>(random.next_double()));
      }
      views.push_back({nullptr, rows[t], out_rows[t], gates[t]});
    }
  }

  std::vector<std::vector<uint32_t>> rows, out_rows;
  std::vector<std::vector<float>> gates;
  std::vector<ExpertTask> views;
};

size_t num_products(std::span<const ExpertTask> tasks) {
  return std::accumulate(tasks.begin(), tasks.end(), size_t{0},
                         [](size_t sum, const ExpertTask& task) { return sum + task.rows.size(); });
}

void expect_whole(const std::vector<RowRange>& ranges, size_t num_rows) {
  size_t next = 0;
  for (const RowRange& range : ranges) {
    EXPECT_EQ(range.first, next);
    EXPECT_GT(range.count, 0u);
    next += range.count;
  }
  EXPECT_EQ(next, num_rows);
}

TEST(CutRows, MakesUpAllRows) {
  EXPECT_TRUE(cut_rows(0, 5).empty());
  for (const size_t max_rows : {0, 1, 3, 10, 11}) expect_whole(cut_rows(10, max_rows), 10);
  EXPECT_EQ(cut_rows(10, 10).size(), 1u);
  EXPECT_EQ(cut_rows(10, 4).size(), 3u);
}

TEST(CutRows, KeepsToTheProductsUnlessARowAloneHasMore) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const ScatteredTasks tasks(4, 20, seed);
    for (const size_t most : {1, 5, 20, 1000}) {
      const auto ranges = cut_rows(tasks.views, 20, most);
      expect_whole(ranges, 20);
      for (const RowRange& range : ranges) {
        if (range.count == 1) continue;
        EXPECT_LE(num_products(TaskSlice(tasks.views, range).tasks()), most);
      }
    }
    EXPECT_EQ(cut_rows(tasks.views, 20, 1000).size(), 1u);
  }
}

TEST(TaskSlice, HasEachProductOnceAndInOrder) {
  const ScatteredTasks tasks(3, 12, 7);
  std::vector<size_t> next(3, 0);
  for (const RowRange& range : cut_rows(12, 5)) {
    const TaskSlice slice(tasks.views, range);
    ASSERT_EQ(slice.tasks().size(), 3u);
    for (size_t t = 0; t < 3; ++t) {
      const ExpertTask& task = slice.tasks()[t];
      next[t] += task.rows.size();
      size_t at = 0;
      for (size_t i = 0; i < task.rows.size(); ++i) {
        // The next one of the whole task that goes to this range.
        while (tasks.out_rows[t][at] < range.first ||
               tasks.out_rows[t][at] >= range.first + range.count) {
          ++at;
        }
        EXPECT_EQ(task.rows[i], tasks.rows[t][at]);
        EXPECT_EQ(task.out_rows[i] + range.first, tasks.out_rows[t][at]);
        EXPECT_EQ(task.gates[i], tasks.gates[t][at]);
        ++at;
      }
    }
  }
  for (size_t t = 0; t < 3; ++t) EXPECT_EQ(next[t], tasks.rows[t].size());
}

}  // namespace
}  // namespace pregate::compute::cuda
