// The whole path in one process: coordinator, transport, workers.
#include <chrono>
#include <future>
#include <latch>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/dispatch/test_cluster.h"

namespace pregate::testing {
namespace {

using coordinator::WorkerState;
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
  cluster.ticker.reset();
  cluster.cluster->stop();
  for (const auto& node : cluster.workers) {
    node->join();
    EXPECT_EQ(node->exit_status, 0);
  }
  for (uint32_t id = 1; id <= 3; ++id) EXPECT_EQ(cluster.state_of(id), WorkerState::kDead);
}

TEST(Cluster, ReportsWhatWorkersHold) {
  TestCluster cluster(2);
  ASSERT_TRUE(cluster.start());
  const auto info = cluster.cluster->info();
  ASSERT_EQ(info.workers.size(), 2u);
  EXPECT_EQ(info.num_experts, kNumExperts * kNumLayers);
  EXPECT_EQ(info.num_missing, 0u);
  // 39 experts in all, split so that totals differ by one at most.
  const auto& [a, b] = std::tie(info.workers[0], info.workers[1]);
  EXPECT_EQ(a.num_held + b.num_held, kNumExperts * kNumLayers);
  EXPECT_LE(a.num_held - b.num_held + 1, 2u);
  EXPECT_EQ(a.held_bytes, a.num_held * 1000u);
  EXPECT_EQ(a.member.capacity.backend, "fake");
  EXPECT_THAT(a.member.title(), HasSubstr("worker-1 ("));
}

/// Silent death in the middle of a request, as under MPI: liveness finds it, and others load what
/// it held.
TEST(Cluster, AWorkerKilledDuringARequestIsReplaced) {
  TestCluster cluster(2);
  std::promise<void> computing;
  std::latch release(1);
  cluster.options.membership.suspect_after = std::chrono::seconds(1);
  ASSERT_TRUE(cluster.start({.reproducible = true}));
  cluster.workers[1]->backend.before_experts = [&](size_t) {
    computing.set_value();
    release.wait();
  };
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  const auto ticket = cluster.experts->dispatch(batch.view());
  ASSERT_TRUE(ticket);
  computing.get_future().wait();
  cluster.hub.cut(transport::PeerId(2));
  std::vector<float> out(batch.rows.size());
  const auto status = cluster.experts->combine(*ticket, {out.data(), 50, kHidden});
  release.count_down();
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_TRUE(status->empty());
  EXPECT_EQ(out, batch.expected());
  EXPECT_EQ(cluster.state_of(2), WorkerState::kSuspect) << "not noticed until it was given up";
  EXPECT_GT(cluster.probe.num_resent, 0u);
  while (!cluster.cluster->health()) std::this_thread::yield();
  cluster.workers[1]->worker->stop();
}

TEST(Cluster, IsNotHealthyWhileTheOnlyHolderIsSuspect) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  EXPECT_TRUE(cluster.cluster->health());
  cluster.hub.cut(transport::PeerId(1));
  cluster.wait_for(1, WorkerState::kSuspect);
  const Status health = cluster.cluster->health();
  ASSERT_FALSE(health);
  EXPECT_THAT(health.error().message, HasSubstr("39 of 39 experts are held only by workers that "
                                                "do not answer"));
  EXPECT_THAT(health.error().message, HasSubstr("worker-1 ("));
  EXPECT_EQ(cluster.cluster->info().num_missing, 0u);
  EXPECT_EQ(cluster.cluster->info().num_unanswered, 39u);
  EXPECT_EQ(cluster.probe.num_unanswered, 39u);
  cluster.workers[0]->worker->stop();
}

TEST(Cluster, SaysWhoAnswers) {
  TestCluster cluster(2);
  ASSERT_TRUE(cluster.start());
  for (const uint32_t stranger : {0u, 3u, 1024u, 1025u, UINT32_MAX}) {
    EXPECT_FALSE(cluster.cluster->answers(WorkerId(stranger)));
  }
  for (const uint32_t id : {1, 2}) {
    while (!cluster.cluster->answers(WorkerId(id))) std::this_thread::yield();
  }
  cluster.hub.cut(transport::PeerId(1));
  while (cluster.cluster->answers(WorkerId(1))) std::this_thread::yield();
  while (!cluster.cluster->answers(WorkerId(2))) std::this_thread::yield();
  cluster.wait_for(1, WorkerState::kSuspect);
  EXPECT_FALSE(cluster.cluster->answers(WorkerId(1)));
  ASSERT_TRUE(cluster.cluster->remove(WorkerId(1)));
  EXPECT_FALSE(cluster.cluster->answers(WorkerId(1)));
  cluster.workers[0]->worker->stop();
}

TEST(Cluster, ASuspectWithAReplicaHarmsNobody) {
  TestCluster cluster(2);
  cluster.options.balancer.replicas = 2;
  ASSERT_TRUE(cluster.start());
  cluster.wait_until_each_holds(kNumExperts * kNumLayers);
  cluster.hub.cut(transport::PeerId(1));
  cluster.wait_for(1, WorkerState::kSuspect);
  EXPECT_TRUE(cluster.cluster->health());
  cluster.workers[0]->worker->stop();
}

TEST(Cluster, AReplicaAnswersForAWorkerThatLeaves) {
  TestCluster cluster(2);
  cluster.options.balancer.replicas = 2;
  ASSERT_TRUE(cluster.start({.reproducible = true}));
  cluster.wait_until_each_holds(kNumExperts * kNumLayers);
  cluster.workers[0]->worker->stop();
  cluster.workers[0]->join();
  EXPECT_EQ(cluster.workers[0]->exit_status, 0);
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  const auto result = compute_remotely(*cluster.experts, batch);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(*result, batch.expected());
}

/// With this nobody is taken for quiet, be this process held up for seconds.
constexpr auto kLongInterval = std::chrono::seconds(4);

/// Alive, with heartbeats, but too slow: a replica is asked instead, and the late answer dropped.
TEST(Cluster, ASlowWorkerIsOvertakenByAReplica) {
  TestCluster cluster(2);
  cluster.options.heartbeat_interval = kLongInterval;
  cluster.options.balancer.replicas = 2;
  std::latch release(1);
  ASSERT_TRUE(cluster.start({.timeout = std::chrono::milliseconds(300),
                             .timeout_per_row = std::chrono::milliseconds(0),
                             .reproducible = true}));
  cluster.wait_until_each_holds(kNumExperts * kNumLayers);
  cluster.workers[0]->backend.before_experts = [&](size_t) { release.wait(); };
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  const auto result = compute_remotely(*cluster.experts, batch);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(*result, batch.expected());
  EXPECT_EQ(cluster.probe.last_reason, coordinator::ResendReason::kLate);
  release.count_down();
  // The late answer is recognised, dropped and counted; the worker goes on serving.
  while (cluster.probe.num_late == 0) std::this_thread::yield();
}

/// Once it is known how long it usually takes, that decides and not the limit for unknown ones.
TEST(Cluster, AWorkerThatIsMuchSlowerThanUsualIsOvertakenByAReplica) {
  TestCluster cluster(2);
  cluster.options.heartbeat_interval = kLongInterval;
  cluster.options.balancer.replicas = 2;
  std::latch release(1);
  ASSERT_TRUE(cluster.start({.timeout = std::chrono::hours(1), .reproducible = true}));
  cluster.wait_until_each_holds(kNumExperts * kNumLayers);
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(compute_remotely(*cluster.experts, batch));
  cluster.workers[0]->backend.before_experts = [&](size_t) { release.wait(); };
  const auto expect_result = [&] {
    const auto result = compute_remotely(*cluster.experts, batch);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(*result, batch.expected());
  };
  expect_result();
  EXPECT_EQ(cluster.probe.last_reason, coordinator::ResendReason::kLate);
  // The other one may be late too, if it is held up; not each time.
  const auto is_spared = [&] {
    const size_t num_resent = cluster.probe.num_resent;
    expect_result();
    return cluster.probe.num_resent == num_resent;
  };
  int num_tries = 1;
  while (!is_spared() && num_tries < 20) ++num_tries;
  EXPECT_LT(num_tries, 20) << "asked first again, though it is late";
  release.count_down();
  // Any answer shows that it is back.
  while (cluster.probe.num_late == 0) std::this_thread::yield();
  const size_t num_served = cluster.workers[0]->backend.num_calls;
  while (cluster.workers[0]->backend.num_calls == num_served) expect_result();
}

TEST(Cluster, ADrainedWorkerHandsOverAndLeaves) {
  TestCluster cluster(3);
  ASSERT_TRUE(cluster.start({.reproducible = true}));
  const auto worker = cluster.cluster->find("worker-2");
  ASSERT_TRUE(worker);
  ASSERT_TRUE(cluster.cluster->drain(*worker));
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  for (int i = 0; i < 20; ++i) {
    const auto result = compute_remotely(*cluster.experts, batch);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(*result, batch.expected());
  }
  cluster.workers[1]->join();
  EXPECT_EQ(cluster.workers[1]->exit_status, 0);
  EXPECT_TRUE(cluster.cluster->health());
}

TEST(Cluster, AnOperatorMovesExpertsWhileTheyAreUsed) {
  TestCluster cluster(2);
  ASSERT_TRUE(cluster.start({.reproducible = true}));
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  for (uint32_t only : {1, 2, 1}) {
    coordinator::Placement placement(0, test_shape());
    for (const LayerIdx layer : test_shape().layers) {
      for (uint32_t id = 0; id < kNumExperts; ++id) {
        placement.add_replica(layer, ExpertId(id), WorkerId(only));
      }
    }
    ASSERT_TRUE(cluster.cluster->set_target(placement));
    const auto others_hold = [&] { return cluster.cluster->info().workers[2 - only].num_held; };
    while (others_hold() > 0) {
      const auto result = compute_remotely(*cluster.experts, batch);
      ASSERT_TRUE(result) << result.error().message;
      EXPECT_EQ(*result, batch.expected());
    }
  }
}

/// With room for exactly what there is, an exchange cannot begin: everything stays, and is served.
TEST(Cluster, FullWorkersThatAreToExchangeKeepWhatTheyHold) {
  TestCluster cluster(2);
  cluster.options.balancer.room_timeout = std::chrono::milliseconds(300);
  cluster.change_session = [](worker::SessionOptions& session) {
    session.capacity.memory_bytes = 20 * 1000;  // 39 are to be held
  };
  cluster.options.placement = std::make_shared<const coordinator::Placement>(
      coordinator::even_placement(1, test_shape(), std::vector{WorkerId(1), WorkerId(2)}));
  ASSERT_TRUE(cluster.start({.reproducible = true}));
  for (const uint32_t id : {1, 2}) cluster.wait_for(id, WorkerState::kReady);
  cluster.cluster->freeze_balancer(true);
  const auto before = cluster.cluster->table();
  const auto exchanged =
      coordinator::even_placement(0, test_shape(), std::vector{WorkerId(2), WorkerId(1)});
  ASSERT_TRUE(cluster.cluster->set_target(exchanged));
  const TestBatch batch(3, 50, 6, LayerIdx(0));
  while (cluster.cluster->balancer().reason != coordinator::BalanceReason::kStalled) {
    const auto result = compute_remotely(*cluster.experts, batch);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(*result, batch.expected());
    for (const auto& worker : cluster.cluster->info().workers) {
      EXPECT_LE(worker.held_bytes, 20'000u);
    }
  }
  EXPECT_TRUE(cluster.cluster->target()->same_replicas(*cluster.cluster->table()));
  EXPECT_EQ(cluster.probe.num_resent, 0u);
  EXPECT_TRUE(cluster.cluster->health());
}

/// What a table in use still sends to a worker is kept, unless it takes the room of experts that
/// nobody holds.
TEST(Cluster, WhatRequestsWaitForNeedNotWaitForAnOlderTable) {
  TestCluster cluster(3);
  cluster.change_session = [](worker::SessionOptions& session) {
    // One in 20 is kept free: together the first and the last have room for exactly all.
    session.capacity.memory_bytes = (session.name == "worker-1" ? 22 : 18) * 1000;
  };
  ASSERT_TRUE(cluster.start({.reproducible = true}));
  for (const uint32_t id : {1, 2, 3}) cluster.wait_for(id, WorkerState::kReady);
  cluster.cluster->freeze_balancer(true);
  const auto older = cluster.cluster->table();
  coordinator::Placement target(0, test_shape());
  size_t num_moved = 0;
  for (const LayerIdx layer : test_shape().layers) {
    for (ExpertId id(0); id.value < kNumExperts; ++id.value) {
      const WorkerId holder = older->workers(layer, id).front();
      const bool moves = holder == WorkerId(1) && num_moved < 5;
      num_moved += moves;
      target.add_replica(layer, id, moves ? WorkerId(3) : holder);
    }
  }
  ASSERT_TRUE(cluster.cluster->set_target(target));
  const auto num_held = [&](size_t index) {
    return cluster.cluster->info().workers[index].num_held;
  };
  while (cluster.cluster->balancer().moving) std::this_thread::yield();
  EXPECT_EQ(num_held(0), 13u);
  EXPECT_EQ(num_held(2), 18u);
  cluster.workers[1]->worker->stop();
  cluster.workers[1]->join();
  cluster.wait_for(2, WorkerState::kDead);
  while (!cluster.cluster->health()) std::this_thread::yield();
  EXPECT_EQ(num_held(0), 21u);
  EXPECT_EQ(num_held(2), 18u);
}

TEST(Cluster, APlacementThatDoesNotFitIsRefused) {
  TestCluster cluster(2);
  cluster.change_session = [](worker::SessionOptions& session) {
    session.capacity.memory_bytes = 38 * 1000;
  };
  ASSERT_TRUE(cluster.start());
  const auto on_one = coordinator::even_placement(0, test_shape(), std::vector{WorkerId(2)});
  const Status set = cluster.cluster->set_target(on_one);
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(set.error().message, HasSubstr("worker-2 ("));
  EXPECT_THAT(set.error().message, HasSubstr("room for 38 experts, and would get 39"));
}

TEST(Cluster, OperatorsErrorsNameTheWorker) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  const auto missing = cluster.cluster->find("worker-7");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("worker-1"));
  coordinator::Placement placement(0, test_shape());
  EXPECT_FALSE(cluster.cluster->set_target(placement));
}

TEST(Cluster, StartSaysWhoIsMissing) {
  TestCluster cluster(3);
  cluster.start_timeout = std::chrono::milliseconds(500);
  cluster.start_worker(0);
  cluster.start_listening();
  while (cluster.state_of(1) == WorkerState::kDead) std::this_thread::yield();
  const Status started = cluster.wait_until_whole();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_THAT(started.error().message, HasSubstr("1 of 3 workers are here"));
}

TEST(Cluster, AnotherCheckpointIsRefused) {
  TestCluster cluster(2);
  cluster.start_timeout = std::chrono::milliseconds(500);
  cluster.change_session = [](worker::SessionOptions& session) { session.model_fingerprint = 1; };
  ASSERT_FALSE(cluster.start());
  for (const auto& node : cluster.workers) {
    node->join();
    EXPECT_EQ(node->exit_status, 1);
  }
  EXPECT_EQ(cluster.probe.num_refused, 2u);
}

TEST(Cluster, AnotherSecretIsRefused) {
  TestCluster cluster(1);
  cluster.start_timeout = std::chrono::milliseconds(500);
  cluster.options.secret = protocol::Secret("the cluster's own secret");
  ASSERT_FALSE(cluster.start());
  cluster.workers[0]->join();
  EXPECT_EQ(cluster.workers[0]->exit_status, 1);
  EXPECT_EQ(cluster.probe.num_refused, 1u);
}

TEST(Cluster, StartCanBeGivenUp) {
  TestCluster cluster(1);
  cluster.give_up = true;
  const Status started = cluster.start_coordinator();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::kCancelled);
}

/// A coordinator that falls silent, where nobody can join anew: the worker leaves with an error.
TEST(Cluster, WorkersNoticeThatTheCoordinatorIsGone) {
  TestCluster cluster(1);
  cluster.max_silence_of_workers = std::chrono::milliseconds(1500);
  ASSERT_TRUE(cluster.start());
  cluster.hub.cut(transport::PeerId(0));
  cluster.workers[0]->join();
  EXPECT_EQ(cluster.workers[0]->exit_status, 1);
}

}  // namespace
}  // namespace pregate::testing
