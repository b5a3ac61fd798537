// What a genuine worker said when it joined, said again by somebody else on another connection.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ringbuffer_sink.h>

#include "base/bounded_queue.h"
#include "base/log.h"
#include "tests/unit/dispatch/test_cluster.h"
#include "transport/ucx/ucx.h"

namespace pregate::testing {
namespace {

using coordinator::JoinRefusal;
using coordinator::WorkerState;
using protocol::MessageType;
using ::testing::HasSubstr;
using transport::Payload;
using transport::PeerId;

constexpr PeerId kCoordinator{0};
constexpr PeerId kStranger{7};

struct Message {
  protocol::Bytes header;
  Payload payload;
};

/// Passes everything on, and keeps a copy of what this process says, as one who listens in would.
class RecordingTransport final : public transport::Transport {
 public:
  explicit RecordingTransport(std::unique_ptr<transport::Transport> inner)
      : inner_(std::move(inner)) {}

  std::string name() const override { return inner_->name(); }
  PeerId self() const override { return inner_->self(); }
  std::vector<PeerId> launched_peers() const override { return inner_->launched_peers(); }
  void start(transport::Hello hello, transport::Events events) override {
    hello_ = hello;
    inner_->start(std::move(hello), std::move(events));
  }
  void connect(PeerId peer) override { inner_->connect(peer); }
  Status send(PeerId to, std::span<const std::byte> header, Payload payload,
              transport::Completion done) override {
    {
      std::lock_guard lock(mutex_);
      said_.push_back({{header.begin(), header.end()}, payload});
    }
    return inner_->send(to, header, std::move(payload), std::move(done));
  }
  void disconnect(PeerId peer) override { inner_->disconnect(peer); }
  void stop(const transport::StopOptions& options) override { inner_->stop(options); }

  const transport::Hello& hello() const { return hello_; }
  std::vector<Message> said() const {
    std::lock_guard lock(mutex_);
    return said_;
  }

 private:
  const std::unique_ptr<transport::Transport> inner_;
  transport::Hello hello_;
  mutable std::mutex mutex_;
  std::vector<Message> said_;  // guarded by mutex_
};

/// Says what another one said, each time it is challenged.
class Stranger {
 public:
  Stranger(std::unique_ptr<transport::Transport> transport, const RecordingTransport& victim)
      : transport_(std::move(transport)), messages_(victim.said()) {
    transport::Events events;
    events.receive = [this](PeerId, std::span<const std::byte> header, const Payload&) {
      if (protocol::decode_type(header) == MessageType::kChallenge) {
        for (const auto& [said, payload] : messages_) {
          (void)transport_->send(kCoordinator, said, payload, {});
        }
      } else {
        answers_.try_push({header.begin(), header.end()});
      }
    };
    transport_->start(victim.hello(), std::move(events));
    transport_->connect(kCoordinator);
  }
  ~Stranger() { transport_->stop({}); }

  /// What it is answered after the challenge.
  std::optional<protocol::Bytes> next_answer() {
    return answers_.pop_for(std::chrono::seconds(20));
  }

 private:
  const std::unique_ptr<transport::Transport> transport_;
  const std::vector<Message> messages_;
  BoundedQueue<protocol::Bytes> answers_{1000};
};

class ReplayedHandshake : public ::testing::TestWithParam<std::string> {
 protected:
  ReplayedHandshake() { spdlog::default_logger()->sinks().push_back(log_); }
  ~ReplayedHandshake() override {
    cluster_.reset();
    std::erase(spdlog::default_logger()->sinks(), log_);
  }

  void start() {
    cluster_.emplace(2);
    cluster_->options.secret = secret_;
    cluster_->change_session = [this](worker::SessionOptions& session) {
      session.secret = secret_;
    };
    if (GetParam() == "ucx") {
      auto listener = transport::make_ucx_transport({.listen = "127.0.0.1:0"});
      if (!listener && listener.error().code == ErrorCode::kUnimplemented) {
        GTEST_SKIP() << "a build without UCX";
      }
      address_ = listener.value()->listen_address();
      cluster_->coordinator_transport = std::move(*listener);
    }
    for (uint32_t id = 1; id <= 2; ++id) {
      auto recording = std::make_unique<RecordingTransport>(dialler(PeerId(id)));
      if (id == 1) victim_ = recording.get();
      cluster_->workers[id - 1]->transport = std::move(recording);
    }
    const Status started = cluster_->start({.reproducible = true});
    ASSERT_TRUE(started) << started.error().message;
    for (uint32_t id = 1; id <= 2; ++id) cluster_->wait_for(id, WorkerState::kReady);
  }

  std::unique_ptr<transport::Transport> dialler(PeerId self) {
    if (GetParam() == "inproc") {
      if (self != kStranger) return std::move(cluster_->workers[self.value - 1]->transport);
      return cluster_->hub.attach(self);
    }
    return transport::make_ucx_transport({.self = self, .addresses = {{kCoordinator, address_}}})
        .value();
  }

  void expect_refusal() {
    Stranger stranger(dialler(kStranger), *victim_);
    const auto answer = stranger.next_answer();
    ASSERT_TRUE(answer);
    const auto refusal = protocol::decode_refusal(*answer);
    ASSERT_TRUE(refusal) << refusal.error().message;
    EXPECT_FALSE(refusal->retry);
    EXPECT_THAT(refusal->error.message, HasSubstr("said before, on another connection"));
    EXPECT_EQ(cluster_->probe.last_refusal, JoinRefusal::kReplayed);
  }

  void expect_service() {
    const TestBatch batch(3, 50, 6, LayerIdx(0));
    const auto result = compute_remotely(*cluster_->experts, batch);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(*result, batch.expected());
  }

  long num_logged(const std::string& text) const {
    const auto lines = log_->last_formatted();
    return std::ranges::count_if(
        lines, [&](const std::string& line) { return line.find(text) != std::string::npos; });
  }

  const protocol::Secret secret_{"the cluster's own secret"};
  std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> log_ =
      std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(1000);
  std::string address_;
  std::optional<TestCluster> cluster_;
  RecordingTransport* victim_ = nullptr;  // owned by the cluster's first worker
};

TEST_P(ReplayedHandshake, IsRefusedWhileTheGenuineWorkerServes) {
  start();
  if (IsSkipped()) return;
  expect_service();
  const auto before = cluster_->cluster->info();
  expect_refusal();
  expect_service();
  const auto after = cluster_->cluster->info();
  ASSERT_EQ(after.workers.size(), 2u);
  EXPECT_EQ(after.table_version, before.table_version);
  for (uint32_t i = 0; i < 2; ++i) {
    EXPECT_EQ(after.workers[i].member.state, WorkerState::kReady);
    EXPECT_EQ(after.workers[i].num_held, before.workers[i].num_held);
    EXPECT_EQ(cluster_->workers[i]->worker->stage(), worker::Worker::Stage::kReady);
  }
  EXPECT_EQ(cluster_->probe.num_resent, 0u);
  EXPECT_EQ(cluster_->probe.num_refused, 1u);
  EXPECT_EQ(num_logged("said before, on another connection"), 1);
}

TEST_P(ReplayedHandshake, IsRefusedWhenTheGenuineWorkerIsGone) {
  start();
  if (IsSkipped()) return;
  cluster_->workers[0]->worker->stop();
  cluster_->workers[0]->join();
  cluster_->wait_for(1, WorkerState::kDead);
  expect_refusal();
  EXPECT_EQ(cluster_->state_of(1), WorkerState::kDead);
  expect_service();
  EXPECT_EQ(cluster_->probe.num_refused, 1u);
}

INSTANTIATE_TEST_SUITE_P(Transports, ReplayedHandshake, ::testing::Values("inproc", "ucx"),
                         [](const auto& tested) { return tested.param; });

}  // namespace
}  // namespace pregate::testing
