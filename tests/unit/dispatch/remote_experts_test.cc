// RemoteExperts against workers written by hand, which may answer anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bounded_queue.h"
#include "tests/unit/dispatch/test_cluster.h"

namespace pregate::testing {
namespace {

using coordinator::split_batch;
using coordinator::WorkerShare;
using protocol::MessageType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using transport::Payload;
using transport::PeerId;

TEST(SplitBatch, SendsEachWorkerOnlyItsRows) {
  const compute::EncodedRows rows{compute::WeightFormat::kF32, 3, kHidden, nullptr};
  const std::vector<ExpertId> experts{ExpertId(5), ExpertId(0), ExpertId(7),
                                      ExpertId(6), ExpertId(5), ExpertId(1)};
  const std::vector<float> gates{1, 2, 3, 4, 5, 6};
  const engine::ExpertBatch batch{1, LayerIdx(0), rows, 2, experts, gates};
  const auto shares = split_batch(batch, [](ExpertId expert) -> Result<WorkerId> {
    return WorkerId(expert.value < 5 ? 1 : 2);
  });
  ASSERT_TRUE(shares);
  ASSERT_EQ(shares->size(), 2u);
  const WorkerShare& first = (*shares)[0];
  EXPECT_EQ(first.worker, WorkerId(1));
  EXPECT_THAT(first.batch_rows, ElementsAre(0, 2));
  EXPECT_THAT(first.table.experts, ElementsAre(ExpertId(0), ExpertId(1)));
  EXPECT_THAT(first.table.rows, ElementsAre(0, 1));
  EXPECT_THAT(first.table.gates, ElementsAre(2, 6));
  const WorkerShare& second = (*shares)[1];
  EXPECT_THAT(second.batch_rows, ElementsAre(0, 1, 2));
  EXPECT_THAT(second.table.experts, ElementsAre(ExpertId(5), ExpertId(6), ExpertId(7)));
  EXPECT_THAT(second.table.counts, ElementsAre(2, 1, 1));
  EXPECT_THAT(second.table.rows, ElementsAre(0, 2, 1, 1));
  EXPECT_THAT(second.table.gates, ElementsAre(1, 5, 4, 3));
}

TEST(SplitBatch, PassesTheErrorOn) {
  const TestBatch batch(1, 2, 2, LayerIdx(0));
  const auto shares = split_batch(batch.view(), [](ExpertId) -> Result<WorkerId> {
    return fail(ErrorCode::kUnavailable, "nobody");
  });
  ASSERT_FALSE(shares);
  EXPECT_EQ(shares.error().message, "nobody");
}

/// A cluster with one worker, which the test plays.
class Scripted : public ::testing::Test {
 protected:
  Scripted() : cluster_(1) {
    transport::Events events;
    events.receive = [this](PeerId, std::span<const std::byte> header, Payload payload) {
      const auto type = protocol::decode_type(header).value();
      if (type == MessageType::kAssignExperts) {
        send(encode_header(protocol::Ready{1, 0, 0, 0, 0, 0, "scripted"}));
      } else if (type == MessageType::kExpertRequest) {
        requests_.try_push(protocol::decode_expert_request(header, payload.bytes()).value());
      } else if (type == MessageType::kGoodbye) {
        send(encode_header(protocol::Goodbye{}));
      }
    };
    cluster_.options.max_silence = std::chrono::minutes(5);  // the test sends no heartbeats
    worker_ = std::move(cluster_.workers[0]->transport);
    worker_->start({protocol::kProtocolVersion, 5, protocol::encode_hello_info({})}, events);
    worker_->connect(PeerId(0));
    const Status started = cluster_.start_coordinator();
    EXPECT_TRUE(started) << started.error().message;
  }
  ~Scripted() override {
    cluster_.experts.reset();
    cluster_.cluster->stop();
    worker_->stop({});
  }

  void send(const protocol::Bytes& header, Payload payload = {}) {
    EXPECT_TRUE(worker_->send(PeerId(0), header, std::move(payload), {}));
  }
  engine::DispatchTicket dispatch() { return cluster_.experts->dispatch(batch_.view()).value(); }
  Status combine(engine::DispatchTicket ticket) {
    return cluster_.experts->combine(ticket, {out_.data(), batch_.num_rows(), kHidden});
  }
  /// A good reply to the request that the worker got.
  protocol::ExpertReply reply_to_request() {
    protocol::ExpertReply reply;
    reply.request = requests_.pop_for(std::chrono::seconds(20)).value().request;
    reply.num_rows = static_cast<uint32_t>(batch_.num_rows());
    reply.cols = kHidden;
    return reply;
  }
  Payload ones() const {
    const std::vector<float> values(batch_.rows.size(), 1.0f);
    return Payload::copy_of(std::as_bytes(std::span(values)));
  }
  void wait_for_late(size_t count) {
    while (cluster_.probe.num_late < count) std::this_thread::yield();
  }

  TestCluster cluster_;
  std::unique_ptr<transport::Transport> worker_;
  BoundedQueue<protocol::ExpertRequest> requests_{100};
  const TestBatch batch_{1, 4, 2, LayerIdx(0)};
  std::vector<float> out_ = std::vector<float>(batch_.rows.size());
};

TEST_F(Scripted, DuplicateAndStrayRepliesAreDropped) {
  const auto ticket = dispatch();
  const auto reply = reply_to_request();
  send(encode_header(reply), ones());
  send(encode_header(reply), ones());
  auto stray = reply;
  stray.request = RequestId(987654321);
  send(encode_header(stray), ones());
  wait_for_late(2);
  ASSERT_TRUE(combine(ticket));
  EXPECT_EQ(out_, std::vector<float>(out_.size(), 1.0f));
  // Again after it was combined.
  send(encode_header(reply), ones());
  wait_for_late(3);
}

TEST_F(Scripted, AnErrorOfAWorkerCarriesItsName) {
  const auto ticket = dispatch();
  auto reply = reply_to_request();
  reply.status = fail(ErrorCode::kNotFound, "expert 3 of layer 0 is not held here");
  send(encode_header(reply));
  const Status status = combine(ticket);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(status.error().message, HasSubstr("worker 1"));
  EXPECT_THAT(status.error().message, HasSubstr("is not held here"));
}

TEST_F(Scripted, AnAnswerOfTheWrongSizeIsRefused) {
  const auto ticket = dispatch();
  auto reply = reply_to_request();
  reply.num_rows = 2;
  const std::vector<float> values(2 * kHidden);
  send(encode_header(reply), Payload::copy_of(std::as_bytes(std::span(values))));
  const Status status = combine(ticket);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kDataLoss);
}

TEST_F(Scripted, SurvivesAnyBytes) {
  Random random(3);
  for (int i = 0; i < 2000; ++i) {
    protocol::Bytes header(random.next_below(80));
    for (std::byte& byte : header) byte = std::byte(random.next_below(4));
    // Most with a type and layout that are known; no Error nor Goodbye, which end a worker.
    if (header.size() >= 4) {
      header[0] = std::byte(2 + random.next_below(6));
      header[1] = header[3] = std::byte(0);
      header[2] = std::byte(1);
    }
    send(header, Payload::copy_of(protocol::Bytes(random.next_below(200))));
  }
  const auto ticket = dispatch();
  send(encode_header(reply_to_request()), ones());
  EXPECT_TRUE(combine(ticket));
  EXPECT_TRUE(cluster_.cluster->health());
}

}  // namespace
}  // namespace pregate::testing
