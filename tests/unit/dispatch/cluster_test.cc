// The whole path in one process: coordinator, transport, workers.
#include <chrono>
#include <future>
#include <latch>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/dispatch/test_cluster.h"

namespace pregate::testing {
namespace {

using ::testing::HasSubstr;

class AnyNumberOfWorkers : public ::testing::TestWithParam<uint32_t> {};

TEST_P(AnyNumberOfWorkers, GiveTheSameBitsAsOneProcess) {
  TestCluster cluster(GetParam());
  const Status started = cluster.start({.reproducible = true});
  ASSERT_TRUE(started) << started.error().message;
  for (const size_t num_rows : {1, 2, 7, 64, 300}) {
    for (uint32_t layer = 0; layer < kNumLayers; ++layer) {
      const TestBatch batch(num_rows + layer, num_rows, 4, LayerIdx(layer));
      const auto result = compute_remotely(*cluster.experts, batch);
      ASSERT_TRUE(result) << result.error().message;
      EXPECT_EQ(*result, batch.expected());
    }
  }
  EXPECT_EQ(cluster.probe.num_combined, 15u);
  EXPECT_EQ(cluster.probe.num_tokens, (1u + 2 + 7 + 64 + 300) * 4 * kNumLayers);
}

TEST_P(AnyNumberOfWorkers, SumPerWorkerUpToRounding) {
  TestCluster cluster(GetParam());
  ASSERT_TRUE(cluster.start());
  const TestBatch batch(5, 100, 6, LayerIdx(1));
  const auto result = compute_remotely(*cluster.experts, batch);
  ASSERT_TRUE(result) << result.error().message;
  const auto expected = batch.expected();
  for (size_t i = 0; i < expected.size(); ++i) {
    // Six products of the order of 10 each.
    ASSERT_NEAR((*result)[i], expected[i], 1e-4);
  }
  const auto again = compute_remotely(*cluster.experts, batch);
  EXPECT_EQ(again.value(), *result);
}

INSTANTIATE_TEST_SUITE_P(Workers, AnyNumberOfWorkers, ::testing::Values(1, 2, 3, 5));

TEST(Cluster, SeveralBatchesMayBeOpen) {
  TestCluster cluster(2);
  ASSERT_TRUE(cluster.start({.reproducible = true}));
  const TestBatch a(1, 9, 3, LayerIdx(0));
  const TestBatch b(2, 5, 2, LayerIdx(2));
  const auto ticket_a = cluster.experts->dispatch(a.view());
  const auto ticket_b = cluster.experts->dispatch(b.view());
  ASSERT_TRUE(ticket_a && ticket_b);
  std::vector<float> out_b(b.rows.size());
  ASSERT_TRUE(cluster.experts->combine(*ticket_b, {out_b.data(), 5, kHidden}));
  std::vector<float> out_a(a.rows.size());
  ASSERT_TRUE(cluster.experts->combine(*ticket_a, {out_a.data(), 9, kHidden}));
  EXPECT_EQ(out_a, a.expected());
  EXPECT_EQ(out_b, b.expected());
}

TEST(Cluster, StopsInOrder) {
  TestCluster cluster(3);
  ASSERT_TRUE(cluster.start());
  cluster.cluster->stop();
  for (const auto& node : cluster.workers) {
    node->join();
    EXPECT_EQ(node->exit_status, 0);
  }
  for (const auto& info : cluster.cluster->workers()) {
    EXPECT_EQ(info.state, coordinator::WorkerState::kLeft);
  }
}

TEST(Cluster, ReportsWhatWorkersHold) {
  TestCluster cluster(2);
  ASSERT_TRUE(cluster.start());
  const auto infos = cluster.cluster->workers();
  ASSERT_EQ(infos.size(), 2u);
  // 39 experts in all, split so that totals differ by one at most.
  EXPECT_EQ(infos[0].ready.experts + infos[1].ready.experts, kNumExperts * kNumLayers);
  EXPECT_LE(infos[0].ready.experts - infos[1].ready.experts + 1, 2u);
  EXPECT_EQ(infos[0].ready.bytes, infos[0].ready.experts * 1000u);
  EXPECT_GT(infos[0].ready.rows_per_second, 0.0);
  EXPECT_EQ(infos[0].ready.backend, "fake");
  EXPECT_THAT(infos[0].name, HasSubstr("worker 1 ("));
}

/// Silent death in the middle of a request, as under MPI: liveness finds it, and names it.
TEST(Cluster, AWorkerKilledDuringARequestIsNamedWithinTwoSeconds) {
  TestCluster cluster(2);
  std::promise<void> computing;
  std::latch release(1);
  cluster.options.max_silence = std::chrono::seconds(1);
  ASSERT_TRUE(cluster.start());
  cluster.workers[1]->backend.before_experts = [&](size_t) {
    computing.set_value();
    release.wait();
  };
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  const auto ticket = cluster.experts->dispatch(batch.view());
  ASSERT_TRUE(ticket);
  computing.get_future().wait();
  const auto killed = std::chrono::steady_clock::now();
  cluster.hub.cut(transport::PeerId(2));
  std::vector<float> out(batch.rows.size());
  const Status status = cluster.experts->combine(*ticket, {out.data(), 50, kHidden});
  const auto noticed = std::chrono::steady_clock::now() - killed;
  release.count_down();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("worker 2 ("));
  EXPECT_THAT(status.error().message, HasSubstr("stopped answering"));
  // The requirement itself, not a guess of speed.
  EXPECT_LT(noticed, std::chrono::seconds(2));

  // From now on it fails at once, and what the other worker holds is still served.
  EXPECT_EQ(cluster.experts->dispatch(batch.view()).error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(cluster.cluster->health());
  TestBatch held(4, 8, 1, LayerIdx(0));
  for (ExpertId& expert : held.expert_ids) expert = ExpertId(0);
  const auto result = compute_remotely(*cluster.experts, held);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(*result, held.expected());
  cluster.workers[1]->worker->stop();
}

TEST(Cluster, AWorkerThatLeavesIsNamedAtOnce) {
  TestCluster cluster(2);
  ASSERT_TRUE(cluster.start());
  cluster.workers[0]->worker->stop();
  cluster.workers[0]->join();
  EXPECT_EQ(cluster.workers[0]->exit_status, 0);
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  const auto result = compute_remotely(*cluster.experts, batch);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(result.error().message, HasSubstr("worker 1 ("));
}

/// Alive, with heartbeats, but too slow.
TEST(Cluster, ASlowWorkerMeetsTheDeadline) {
  TestCluster cluster(2);
  std::latch release(1);
  ASSERT_TRUE(cluster.start({.timeout = std::chrono::milliseconds(300),
                             .timeout_per_row = std::chrono::milliseconds(0)}));
  cluster.workers[0]->backend.before_experts = [&](size_t) { release.wait(); };
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  const auto result = compute_remotely(*cluster.experts, batch);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_THAT(result.error().message, HasSubstr("worker 1 ("));
  EXPECT_TRUE(cluster.cluster->health());
  release.count_down();
  // The late answer is recognised, dropped and counted; the worker goes on serving.
  while (cluster.probe.num_late == 0) std::this_thread::yield();
  cluster.workers[0]->backend.before_experts = nullptr;
  const auto again = compute_remotely(*cluster.experts, batch);
  EXPECT_TRUE(again) << again.error().message;
}

TEST(Cluster, StartNamesWhoIsMissing) {
  TestCluster cluster(3);
  cluster.options.join_timeout = std::chrono::milliseconds(500);
  cluster.start_worker(0);
  const Status started = cluster.start_coordinator();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_THAT(started.error().message, HasSubstr("worker 2, worker 3 not started"));
}

TEST(Cluster, AnotherCheckpointIsRefused) {
  TestCluster cluster(2);
  cluster.fingerprint_of_workers = 1;
  const Status started = cluster.start();
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message, HasSubstr("another checkpoint"));
}

TEST(Cluster, AnExpertThatCannotBeLoadedIsNamed) {
  TestCluster cluster(2);
  cluster.load_hook = [](LayerIdx layer, ExpertId expert) -> Status {
    if (layer == LayerIdx(1) && expert == ExpertId(9)) {
      return fail(ErrorCode::kDataLoss, "model.safetensors: truncated");
    }
    return {};
  };
  const Status started = cluster.start();
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message, HasSubstr("worker 2 ("));
  EXPECT_THAT(started.error().message, HasSubstr("layer 1 expert 9: model.safetensors: truncated"));
}

TEST(Cluster, StartCanBeGivenUp) {
  TestCluster cluster(1);
  cluster.give_up = true;
  const Status started = cluster.start_coordinator();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::kCancelled);
}

/// A coordinator that falls silent: the worker leaves with an error.
TEST(Cluster, WorkersNoticeThatTheCoordinatorIsGone) {
  TestCluster cluster(1);
  cluster.worker_options.heartbeat.max_silence = std::chrono::milliseconds(1500);
  ASSERT_TRUE(cluster.start());
  cluster.hub.cut(transport::PeerId(0));
  cluster.workers[0]->join();
  EXPECT_EQ(cluster.workers[0]->exit_status, 1);
}

}  // namespace
}  // namespace pregate::testing
