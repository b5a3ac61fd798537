#include "base/thread_pool.h"

#include <chrono>
#include <vector>

#include <gtest/gtest.h>

namespace pregate {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<size_t> {};

TEST_P(ThreadPoolTest, RunsEveryTaskExactlyOnce) {
  ThreadPool pool(GetParam());
  for (const size_t num_tasks : {0, 1, 2, 3, 100}) {
    std::vector<std::atomic<int>> counts(num_tasks);
    pool.parallel_for(num_tasks, [&](size_t task, size_t thread) {
      EXPECT_LT(thread, pool.num_threads());
      counts[task].fetch_add(1);
    });
    for (const auto& count : counts) EXPECT_EQ(count.load(), 1);
  }
}

TEST_P(ThreadPoolTest, ManyShortLoopsWithPausesBetween) {
  ThreadPool pool(GetParam());
  size_t total = 0;
  for (int round = 0; round < 500; ++round) {
    std::atomic<size_t> sum{0};
    pool.run([&](size_t thread) { sum.fetch_add(thread + 1); });
    total += sum.load();
    // Long enough, now and then, for the team to go to sleep.
    if (round % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const size_t n = GetParam();
  EXPECT_EQ(total, 500 * n * (n + 1) / 2);
}

INSTANTIATE_TEST_SUITE_P(TeamSizes, ThreadPoolTest, ::testing::Values(1, 2, 3, 8));

}  // namespace
}  // namespace pregate
