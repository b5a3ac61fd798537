// How a worker joins, stays and comes back, step by step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/stepped_worker.h"

namespace pregate::worker {
namespace {

using protocol::MessageType;
using protocol::Refusal;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using Session = pregate::testing::SteppedWorker;

const protocol::ExpertRange kFirstTwo{LayerIdx(0), ExpertId(0), 2};

TEST_F(Session, JoinsWithWhatItIs) {
  start_and_join();
  EXPECT_EQ(last_join.name, "w");
  EXPECT_EQ(last_join.host, "here");
  EXPECT_EQ(last_join.incarnation, transport.hello_of_worker.incarnation);
  EXPECT_EQ(last_join.model_fingerprint, pregate::testing::kFingerprintOfModel);
  EXPECT_EQ(last_join.capacity.backend, "fake");
  EXPECT_EQ(last_join.capacity.memory_bytes, 1u << 20);
  const auto expected = prove_worker(options.session.secret, challenge.nonce, last_join);
  EXPECT_EQ(last_join.proof, expected);
  EXPECT_TRUE(probe.is_joined);
  const auto holdings = last_holdings();
  ASSERT_TRUE(holdings);
  EXPECT_TRUE(holdings->ranges.empty());
  EXPECT_FALSE(holdings->complete);
  EXPECT_EQ(worker->stage(), Worker::Stage::kLoading);
}

TEST_F(Session, ACoordinatorThatDoesNotKnowTheSecretIsRefusedForGood) {
  start();
  transport.answer();
  transport.say(encode_header(challenge));
  welcome(protocol::Secret("another secret, as long"));
  EXPECT_TRUE(worker->is_over());
  EXPECT_FALSE(transport.is_up);
  EXPECT_FALSE(probe.is_joined);
  EXPECT_EQ(worker->finish(), 1);
  EXPECT_TRUE(transport.is_stopped);
}

TEST_F(Session, AWelcomeThatNobodyAskedForMeansNothing) {
  start();
  transport.answer();
  transport.say(encode_header(protocol::Welcome{}));
  EXPECT_FALSE(worker->is_over());
  EXPECT_EQ(worker->stage(), Worker::Stage::kJoining);
}

TEST_F(Session, WhoIsNotProvenCannotAssignNorAsk) {
  start();
  transport.answer();
  assign(1, {kFirstTwo});
  step();
  EXPECT_TRUE(loads.empty());
  EXPECT_EQ(worker->stage(), Worker::Stage::kJoining);
}

TEST_F(Session, ARefusalForGoodEndsTheWorker) {
  start();
  transport.answer();
  transport.say(encode_header(Refusal{false, {ErrorCode::kInvalidArgument, "another model"}}));
  EXPECT_TRUE(worker->is_over());
  EXPECT_EQ(worker->finish(), 1);
}

TEST_F(Session, ARefusalForNowIsTriedAgain) {
  start();
  transport.answer();
  transport.say(encode_header(Refusal{true, {ErrorCode::kUnavailable, "name is taken"}}));
  EXPECT_FALSE(worker->is_over());
  EXPECT_FALSE(transport.is_up);
  EXPECT_EQ(transport.num_dials, 1);
  pass(milliseconds(150));
  EXPECT_EQ(transport.num_dials, 2);
  join();
  EXPECT_TRUE(probe.is_joined);
  EXPECT_EQ(probe.num_rejoins, 0);
}

TEST_F(Session, WithoutReconnectingARefusalForNowEndsTheWorkerToo) {
  options.session.reconnect = false;
  start();
  transport.answer();
  transport.say(encode_header(Refusal{true, {ErrorCode::kUnavailable, "name is taken"}}));
  EXPECT_TRUE(worker->is_over());
  EXPECT_EQ(worker->finish(), 1);
  EXPECT_TRUE(transport.stop_options.peers_lost);
}

TEST_F(Session, TheHandshakeHasADeadline) {
  start();
  transport.answer();
  pass(milliseconds(4990));
  EXPECT_TRUE(transport.is_up);
  pass(milliseconds(20));
  EXPECT_FALSE(transport.is_up);
  pass(milliseconds(150));
  EXPECT_EQ(transport.num_dials, 2);
}

TEST_F(Session, AJoinThatNobodyAnswersIsRepeated) {
  start();
  transport.answer();
  transport.say(encode_header(challenge));
  pass(milliseconds(2500));
  const auto joins = transport.take(MessageType::kJoin);
  ASSERT_EQ(joins.size(), 3u);
  EXPECT_EQ(joins[0].header, joins[2].header);
}

TEST_F(Session, ADoubledChallengeIsAnsweredTheSameWhileItMatters) {
  start();
  transport.answer();
  transport.say(encode_header(challenge));
  transport.say(encode_header(challenge));
  const auto joins = transport.take(MessageType::kJoin);
  ASSERT_EQ(joins.size(), 2u);
  EXPECT_EQ(joins[0].header, joins[1].header);
  transport.lose("cable pulled");
  pass(milliseconds(150));
  join();
  transport.say(encode_header(challenge));
  EXPECT_TRUE(probe.is_joined);
  EXPECT_TRUE(transport.take(MessageType::kJoin).empty());
}

TEST_F(Session, ComesBackAsTheSameWithAllThatItHolds) {
  start_and_join();
  assign(3, {kFirstTwo});
  step();
  EXPECT_EQ(worker->stage(), Worker::Stage::kReady);
  const uint64_t incarnation = last_join.incarnation;
  transport.lose("cable pulled");
  EXPECT_EQ(worker->stage(), Worker::Stage::kJoining);
  pass(milliseconds(150));
  EXPECT_EQ(transport.num_dials, 2);
  last_holdings();
  join();
  EXPECT_EQ(last_join.incarnation, incarnation);
  EXPECT_EQ(probe.num_rejoins, 1);
  EXPECT_EQ(loads.size(), 2u);
  const auto holdings = last_holdings();
  ASSERT_TRUE(holdings);
  EXPECT_EQ(holdings->assignment, 3u);
  EXPECT_TRUE(holdings->complete);
  EXPECT_EQ(holdings->ranges, std::vector{kFirstTwo});
}

TEST_F(Session, AnotherCoordinatorCountsItsAssignmentsAnew) {
  start_and_join();
  assign(30, {kFirstTwo});
  step();
  transport.lose("it died");
  pass(milliseconds(150));
  last_holdings();
  join(2);
  auto holdings = last_holdings();
  ASSERT_TRUE(holdings);
  EXPECT_EQ(holdings->assignment, 0u);
  EXPECT_FALSE(holdings->complete);
  EXPECT_EQ(holdings->ranges, std::vector{kFirstTwo});
  assign(1, {kFirstTwo});
  step();
  holdings = last_holdings();
  ASSERT_TRUE(holdings);
  EXPECT_EQ(holdings->assignment, 1u);
  EXPECT_TRUE(holdings->complete);
  EXPECT_EQ(loads.size(), 2u);
}

TEST_F(Session, DialsLessAndLessOften) {
  start();
  std::vector<TimePoint> dials;
  for (int i = 0; i < 12; ++i) {
    transport.lose("refused");
    const int before = transport.num_dials;
    while (transport.num_dials == before) pass(milliseconds(10));
    dials.push_back(clock.now());
  }
  for (size_t i = 1; i < dials.size(); ++i) {
    const Duration longest = std::min<Duration>(milliseconds(100) * (1 << i), seconds(2));
    EXPECT_LE(dials[i] - dials[i - 1], longest + milliseconds(10));
    EXPECT_GE(dials[i] - dials[i - 1], longest / 2);
  }
}

TEST_F(Session, DialsAgainIfNothingHappens) {
  start();
  pass(seconds(10) + milliseconds(150));
  EXPECT_EQ(transport.num_dials, 2);
  EXPECT_EQ(transport.num_disconnects, 1);
}

TEST_F(Session, ASilentCoordinatorIsLeftAndDialledAgain) {
  start_and_join();
  pass(milliseconds(9900));
  EXPECT_TRUE(transport.is_up);
  pass(milliseconds(500));
  EXPECT_FALSE(transport.is_up);
  EXPECT_FALSE(worker->is_over());
  pass(milliseconds(150));
  EXPECT_EQ(transport.num_dials, 2);
}

TEST_F(Session, WithoutReconnectingSilenceEndsTheWorker) {
  options.session.reconnect = false;
  start_and_join();
  pass_with_beats(seconds(30), 100);
  EXPECT_FALSE(worker->is_over());
  pass(milliseconds(10500));
  EXPECT_TRUE(worker->is_over());
  EXPECT_EQ(worker->finish(), 1);
}

TEST_F(Session, WithoutReconnectingTheFirstWordMayTakeMinutes) {
  options.session.reconnect = false;
  start();
  pass(minutes(4));
  EXPECT_FALSE(worker->is_over());
  pass(seconds(61));
  EXPECT_TRUE(worker->is_over());
}

TEST_F(Session, TimeInWhichTheProcessStoodStillIsNoSilence) {
  start_and_join();
  clock.advance(seconds(30));
  step();
  EXPECT_TRUE(transport.is_up);
}

TEST_F(Session, BeatsSayWhatItHas) {
  start_and_join();
  assign(4, {kFirstTwo});
  step();
  transport.sent.clear();
  pass(milliseconds(500));
  const auto beats = transport.take(MessageType::kHeartbeat);
  ASSERT_EQ(beats.size(), 2u);
  const auto beat = protocol::decode_heartbeat(beats[1].header).value();
  EXPECT_EQ(beat.assignment, 4u);
  EXPECT_GT(beat.revision, 0u);
  EXPECT_FALSE(beat.leaving);
}

TEST_F(Session, LostHoldingsAreRepeated) {
  start_and_join();
  assign(1, {kFirstTwo});
  step();
  const auto first = last_holdings();
  ASSERT_TRUE(first);
  // It was on its way: not repeated yet.
  pass(milliseconds(400));
  beat(first->revision - 1);
  EXPECT_FALSE(last_holdings());
  pass(milliseconds(200));
  beat(first->revision - 1);
  const auto second = last_holdings();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->revision, first->revision);
  EXPECT_TRUE(second->complete);
  pass(milliseconds(600));
  beat(first->revision);
  EXPECT_FALSE(last_holdings());
}

TEST_F(Session, LeavesOnGoodbye) {
  start_and_join();
  transport.sent.clear();
  transport.say(encode_header(protocol::Goodbye{true}));
  EXPECT_TRUE(worker->is_over());
  EXPECT_EQ(worker->finish(), 0);
  EXPECT_EQ(transport.take(MessageType::kGoodbye).size(), 1u);
  EXPECT_TRUE(transport.stop_options.peers_lost);
}

TEST_F(Session, AsksToBeDrained) {
  start_and_join();
  transport.sent.clear();
  worker->drain();
  const auto beats = transport.take(MessageType::kHeartbeat);
  ASSERT_EQ(beats.size(), 1u);
  EXPECT_TRUE(protocol::decode_heartbeat(beats[0].header).value().leaving);
  EXPECT_FALSE(worker->is_over());
  transport.say(encode_header(protocol::Goodbye{}));
  EXPECT_EQ(worker->finish(), 0);
}

TEST_F(Session, WithoutACoordinatorThereIsNobodyToAsk) {
  start();
  worker->drain();
  EXPECT_TRUE(worker->is_over());
  EXPECT_EQ(worker->finish(), 0);
}

TEST_F(Session, LosingTheCoordinatorWhileLeavingIsTheEnd) {
  start_and_join();
  worker->drain();
  transport.lose("it died");
  EXPECT_TRUE(worker->is_over());
  EXPECT_EQ(worker->finish(), 0);
}

TEST_F(Session, StopSaysGoodbye) {
  start_and_join();
  worker->stop();
  EXPECT_EQ(worker->finish(), 0);
  EXPECT_EQ(transport.take(MessageType::kGoodbye).size(), 1u);
}

}  // namespace
}  // namespace pregate::worker
