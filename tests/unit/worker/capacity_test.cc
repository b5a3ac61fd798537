#include "worker/experts/capacity.h"

#include <gtest/gtest.h>

#include "tests/unit/worker/fake_backend.h"
#include "tests/unit/worker/manual_clock.h"

namespace pregate::worker {
namespace {

TEST(Capacity, IsMeasuredWithOneExpert) {
  pregate::testing::ManualClock clock;
  pregate::testing::FakeBackend backend;
  backend.before_experts = [&](size_t rows) {
    clock.advance(rows * std::chrono::microseconds(500));
  };
  std::vector<ExpertKey> read;
  const auto capacity = measure_capacity(
      [&](LayerIdx layer, ExpertId expert) {
        read.emplace_back(layer, expert);
        return pregate::testing::load_fake(layer, expert, 8);
      },
      backend, {.sample = {LayerIdx(3), ExpertId(0)}, .num_threads = 6, .memory_bytes = 5000},
      clock);
  ASSERT_TRUE(capacity);
  EXPECT_EQ(read, std::vector{ExpertKey(LayerIdx(3), ExpertId(0))});
  EXPECT_DOUBLE_EQ(capacity->rows_per_second, 2000);
  EXPECT_EQ(capacity->expert_bytes, 1000u);
  EXPECT_EQ(capacity->memory_bytes, 5000u);
  EXPECT_EQ(capacity->threads, 6u);
  EXPECT_EQ(capacity->backend, "fake");
}

TEST(Capacity, WhatACallCostsBesideItsRowsHardlyCounts) {
  pregate::testing::ManualClock clock;
  pregate::testing::FakeBackend backend;
  // As a device: 160 us for a call, and 1 us for each row.
  backend.before_experts = [&](size_t rows) {
    clock.advance(std::chrono::microseconds(160 + rows));
  };
  const auto read = [](LayerIdx layer, ExpertId expert) {
    return pregate::testing::load_fake(layer, expert, 8);
  };
  const auto capacity = measure_capacity(read, backend, {}, clock);
  ASSERT_TRUE(capacity);
  EXPECT_GT(capacity->rows_per_second, 750'000);
  EXPECT_LT(capacity->rows_per_second, 1'000'000);
}

TEST(Capacity, AClockThatStandsStillDoesNotKeepItMeasuring) {
  const pregate::testing::ManualClock clock;
  pregate::testing::FakeBackend backend;
  const auto read = [](LayerIdx layer, ExpertId expert) {
    return pregate::testing::load_fake(layer, expert, 8);
  };
  const auto capacity = measure_capacity(read, backend, {}, clock);
  ASSERT_TRUE(capacity);
  EXPECT_GT(capacity->rows_per_second, 0);
}

TEST(Capacity, WhatCannotBeReadIsAnError) {
  pregate::testing::FakeBackend backend;
  const auto read = [](LayerIdx, ExpertId) -> Result<std::unique_ptr<compute::PackedExpert>> {
    return fail(ErrorCode::kDataLoss, "file.safetensors: damaged");
  };
  EXPECT_FALSE(measure_capacity(read, backend, {}, system_clock()));
}

}  // namespace
}  // namespace pregate::worker
