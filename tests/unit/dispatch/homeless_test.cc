// Rows of experts that nobody holds.
#include <future>
#include <latch>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/dispatch/test_cluster.h"

namespace pregate::testing {
namespace {

using coordinator::WorkerState;
using engine::HomelessRow;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Two workers, of which the first dies.
class Homeless : public ::testing::Test {
 protected:
  /// The second is full.
  void have_no_room() {
    cluster_.change_session = [](worker::SessionOptions& session) {
      if (session.name == "worker-2") session.capacity.memory_bytes = 16 * 1000;
    };
  }
  void start(Duration grace) {
    ASSERT_TRUE(cluster_.start({.homeless_grace = grace, .reproducible = true}));
    table_ = cluster_.cluster->table();
  }
  void kill_first() {
    table_before_ = *std::exchange(table_, nullptr);
    cluster_.workers[0]->worker->stop();
    cluster_.workers[0]->join();
    cluster_.wait_for(1, WorkerState::kDead);
  }
  bool was_lost(ExpertId expert) const {
    return table_before_->workers(batch_.layer, expert).front() == WorkerId(1);
  }
  Result<std::vector<HomelessRow>> compute() {
    const auto ticket = cluster_.experts->dispatch(batch_.view());
    return cluster_.experts->combine(ticket.value(), {out_.data(), batch_.num_rows(), kHidden});
  }
  engine::MissingExperts lost_experts() const {
    engine::MissingExperts missing{batch_.layer, {}};
    for (uint32_t id = 0; id < kNumExperts; ++id) {
      if (was_lost(ExpertId(id))) missing.experts.push_back(ExpertId(id));
    }
    return missing;
  }

  /// Just the rows that need what was lost are named, with each expert that they lack; the others
  /// are right.
  void check(const std::vector<HomelessRow>& homeless) const {
    std::set<std::pair<size_t, ExpertId>> named, expected;
    for (const auto& [row, expert] : homeless) named.emplace(row, expert);
    EXPECT_EQ(named.size(), homeless.size());
    std::set<size_t> rows;
    for (size_t i = 0; i < batch_.expert_ids.size(); ++i) {
      if (!was_lost(batch_.expert_ids[i])) continue;
      expected.emplace(i / batch_.top_k, batch_.expert_ids[i]);
      rows.insert(i / batch_.top_k);
    }
    EXPECT_EQ(named, expected);
    EXPECT_FALSE(rows.empty());
    EXPECT_LT(rows.size(), batch_.num_rows());
    const auto right = batch_.expected();
    for (size_t row = 0; row < batch_.num_rows(); ++row) {
      if (rows.contains(row)) continue;
      for (size_t i = row * kHidden; i < (row + 1) * kHidden; ++i) ASSERT_EQ(out_[i], right[i]);
    }
  }

  const TestBatch batch_{3, 50, 2, LayerIdx(0)};
  std::vector<float> out_ = std::vector<float>(batch_.rows.size());
  std::shared_ptr<const coordinator::Placement> table_;
  std::optional<coordinator::Placement> table_before_;
  TestCluster cluster_{2};
};

TEST_F(Homeless, RowsAreNamedAndTheOthersComputed) {
  have_no_room();
  start(std::chrono::milliseconds(50));
  EXPECT_THAT(compute().value(), IsEmpty());
  kill_first();
  for (int i = 0; i < 3; ++i) {
    const auto homeless = compute();
    ASSERT_TRUE(homeless) << homeless.error().message;
    check(*homeless);
  }
  const engine::MissingExperts missing = lost_experts();
  EXPECT_FALSE(cluster_.experts->has_homes(missing));
  const Error error = cluster_.experts->missing_error(missing);
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  EXPECT_THAT(error.message, HasSubstr(fmt::format("no worker holds expert {} of layer 0: ",
                                                   missing.experts.front())));
  EXPECT_THAT(error.message, HasSubstr("held by no live worker"));
  EXPECT_THAT(error.message, HasSubstr("worker-1 ("));
}

/// The grace is counted from the loss of an expert, not from when rows meet it.
TEST_F(Homeless, TheGracePassesOnce) {
  have_no_room();
  start(std::chrono::milliseconds(1500));
  const TimePoint begin = system_clock().now();
  kill_first();
  for (int i = 0; i < 20; ++i) check(compute().value());
  const Duration took = system_clock().now() - begin;
  EXPECT_GE(took, std::chrono::milliseconds(1500));
  EXPECT_LT(took, std::chrono::seconds(20)) << "each of them waited";
}

/// Those who come again within the grace are not missed.
TEST_F(Homeless, AQuickReloadIsWaitedFor) {
  cluster_.load_hook = [](LayerIdx, ExpertId) -> Status {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return {};
  };
  start(std::chrono::seconds(20));
  kill_first();
  EXPECT_THAT(compute().value(), IsEmpty());
  EXPECT_EQ(out_, batch_.expected());
}

TEST_F(Homeless, WhoWaitsIsToldWhenExpertsAreHeldAgain) {
  std::latch release(1);
  std::atomic<bool> hold_back{false};
  cluster_.load_hook = [&](LayerIdx, ExpertId) -> Status {
    if (hold_back) release.wait();
    return {};
  };
  start(std::chrono::milliseconds(50));
  hold_back = true;
  kill_first();
  check(compute().value());
  const engine::MissingExperts missing = lost_experts();
  EXPECT_FALSE(cluster_.experts->has_homes(missing));
  std::atomic<size_t> num_told{0};
  cluster_.experts->watch_homes([&] { ++num_told; });
  release.count_down();
  while (!cluster_.experts->has_homes(missing)) std::this_thread::yield();
  while (num_told == 0) std::this_thread::yield();
  cluster_.experts->watch_homes({});
  EXPECT_THAT(compute().value(), IsEmpty());
  EXPECT_EQ(out_, batch_.expected());
}

/// Rows without a home cost those nothing that are only slow.
TEST_F(Homeless, SlowAnswersAreStillWaitedFor) {
  have_no_room();
  start(std::chrono::milliseconds(50));
  kill_first();
  std::latch release(1);
  cluster_.workers[1]->backend.before_experts = [&](size_t) { release.wait(); };
  auto pending = std::async(std::launch::async, [&] { return compute(); });
  EXPECT_EQ(pending.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  release.count_down();
  check(pending.get().value());
}

}  // namespace
}  // namespace pregate::testing
