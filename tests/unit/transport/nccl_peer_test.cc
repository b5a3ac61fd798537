// NCCL around the in-process transport, and a peer that says what it should not: a bare endpoint
// that claims to have NCCL and writes notes itself.
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>

#include "transport/inproc/hub.h"
#include "transport/nccl/nccl.h"
#include "transport/nccl/note.h"

namespace pregate::transport {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr PeerId kSelf{0}, kPeer{1};
constexpr std::byte kHeader[] = {std::byte{1}};

/// Lanes that never come up, and count how many were wanted.
class NoLanes final : public LaneMaker {
 public:
  Result<LaneKey> make_key() override { return LaneKey{}; }
  std::unique_ptr<Lane> make_lane() override {
    ++num_made;
    return std::make_unique<NoLane>();
  }
  std::atomic<int> num_made{0};

 private:
  class NoLane final : public Lane {
    static Status no() { return fail(ErrorCode::kUnavailable, "no lane"); }
    Status join(const LaneKey&, LaneEnd, TimePoint) override { return no(); }
    Status send(const LaneBytes<const std::byte>&, Duration) override { return no(); }
    Status receive(const LaneBytes<std::byte>&, Duration) override { return no(); }
    void cancel() override {}
  };
};

/// Lanes that bring what nobody sent, as those of NCCL may when the other end gave up.
class GarbageLanes final : public LaneMaker {
 public:
  Result<LaneKey> make_key() override { return LaneKey{}; }
  std::unique_ptr<Lane> make_lane() override { return std::make_unique<GarbageLane>(*this); }
  std::atomic<int> num_received{0};

 private:
  class GarbageLane final : public Lane {
   public:
    explicit GarbageLane(GarbageLanes& lanes) : lanes_(lanes) {}
    Status join(const LaneKey&, LaneEnd, TimePoint) override { return {}; }
    Status send(const LaneBytes<const std::byte>&, Duration) override { return {}; }
    Status receive(const LaneBytes<std::byte>& to, Duration) override {
      std::ranges::fill(to.bytes, std::byte{99});
      ++lanes_.num_received;
      return {};
    }
    void cancel() override {}

   private:
    GarbageLanes& lanes_;
  };
};

struct BrokenLanes final : NcclProbe {
  void lane_broke() override { ++num_broken; }
  std::atomic<int> num_broken{0};
};

/// What happened to one end.
class Log {
 public:
  Events events() {
    Events events;
    events.peer_up = [this](PeerId, const Hello&) { add("up"); };
    events.peer_down = [this](PeerId, const Error& why) { add("down: " + why.message); };
    events.receive = [this](PeerId, std::span<const std::byte> header, Payload payload) {
      if (!header.empty()) {
        const int first = payload.size() == 0 ? 0 : int(payload.bytes()[0]);
        return add(fmt::format("message {} of {}", int(header[0]), first));
      }
      const auto note = decode_note(payload);
      add(note ? fmt::format("note {} {}", int(note->kind), note->lane) : "no note");
    };
    return events;
  }
  std::string next() {
    std::unique_lock lock(mutex_);
    const bool came =
        changed_.wait_for(lock, std::chrono::seconds(20), [this] { return !lines_.empty(); });
    if (!came) return "nothing";
    const std::string line = lines_.front();
    lines_.pop_front();
    return line;
  }

 private:
  void add(const std::string& line) {
    {
      std::lock_guard lock(mutex_);
      lines_.push_back(line);
    }
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> lines_;  // guarded by mutex_
};

class NcclPeer : public ::testing::Test {
 public:
  /// `knows`: this process dialled the peer.
  void meet(bool knows, std::shared_ptr<LaneMaker> lanes = nullptr) {
    if (lanes == nullptr) lanes = lanes_;
    carrier_ = hub_.attach(kSelf);
    transport_ = make_nccl_transport(*carrier_, lanes, probe_, {.min_payload_bytes = 10});
    peer_ = hub_.attach(kPeer);
    transport_->start({1, 10, {}}, log_.events());
    peer_->start({1, 11, {}, kNcclFeature}, peer_log_.events());
    if (knows) {
      transport_->connect(kPeer);
    } else {
      peer_->connect(kSelf);
    }
    ASSERT_EQ(log_.next(), "up");
    ASSERT_EQ(peer_log_.next(), "up");
  }

  void tell(const Note& note, std::span<const std::byte> rest = {},
            std::span<const std::byte> header = {}) {
    ASSERT_TRUE(peer_->send(kSelf, {}, encode_note(note, rest, header), {}));
  }
  void announce(const Note& note) { tell(note, {}, kHeader); }
  void offer() { tell({.kind = NoteKind::kOffer, .lane = 1}, key_); }
  void tell_bytes(size_t size) {
    ASSERT_TRUE(peer_->send(kSelf, {}, Payload::copy_of(std::vector<std::byte>(size)), {}));
  }
  void tell_message(int number) {
    const std::byte header[] = {std::byte(number)};
    ASSERT_TRUE(peer_->send(kSelf, header, {}, {}));
  }

 protected:
  // The logs outlive who writes them.
  Log log_, peer_log_;
  BrokenLanes probe_;
  const std::shared_ptr<NoLanes> lanes_ = std::make_shared<NoLanes>();
  InprocHub hub_;
  std::unique_ptr<Transport> carrier_, transport_;
  std::unique_ptr<Transport> peer_;
  const LaneKey key_{};
};

TEST_F(NcclPeer, AStrangersLaneIsDeclinedWithoutNccl) {
  meet(/*knows=*/false);
  tell({.kind = NoteKind::kOffer, .lane = 5}, key_);
  EXPECT_EQ(peer_log_.next(), "note 6 5");
  EXPECT_EQ(lanes_->num_made, 0);
}

TEST_F(NcclPeer, TheLaneOfWhomWeDialledIsTried) {
  meet(/*knows=*/true);
  tell({.kind = NoteKind::kOffer, .lane = 5}, key_);
  EXPECT_EQ(peer_log_.next(), "note 6 5");  // it could not be joined
  EXPECT_EQ(lanes_->num_made, 1);
}

TEST_F(NcclPeer, WhoWasSentAPayloadMayOfferALane) {
  meet(/*knows=*/false);
  const auto payload_of = [](size_t size) {
    return Payload::copy_of(std::vector<std::byte>(size));
  };
  ASSERT_TRUE(transport_->send(kPeer, kHeader, payload_of(1), {}));
  EXPECT_EQ(peer_log_.next(), "message 1 of 0");
  tell({.kind = NoteKind::kOffer, .lane = 5}, key_);
  EXPECT_EQ(peer_log_.next(), "note 6 5");
  EXPECT_EQ(lanes_->num_made, 1);
  EXPECT_EQ(probe_.num_broken, 0);
}

TEST_F(NcclPeer, ALargePayloadAsksForALaneAndGoesByTheCarrierMeanwhile) {
  meet(/*knows=*/false);
  const std::vector<std::byte> payload(10);
  ASSERT_TRUE(transport_->send(kPeer, kHeader, Payload::copy_of(payload), {}));
  EXPECT_EQ(peer_log_.next(), "message 1 of 0");
  EXPECT_EQ(peer_log_.next(), "note 2 1");
  while (probe_.num_broken == 0) std::this_thread::yield();  // it could not be joined
  EXPECT_EQ(lanes_->num_made, 1);
}

TEST_F(NcclPeer, MessagesWaitForWhatWasAnnouncedBefore) {
  meet(/*knows=*/true);
  const std::vector<std::byte> payload(100);
  offer();
  EXPECT_EQ(peer_log_.next(), "note 6 1");
  announce({.kind = NoteKind::kAnnounce, .lane = 1, .number = 1, .payload_bytes = 100});
  tell_message(2);
  tell({.kind = NoteKind::kInstead, .number = 1}, payload);
  EXPECT_EQ(log_.next(), "message 1 of 0");
  EXPECT_EQ(log_.next(), "message 2 of 0");
  EXPECT_EQ(peer_log_.next(), "note 5 0");
  tell({.kind = NoteKind::kInstead, .number = 1}, payload);  // once more: it is there
  tell_message(3);
  EXPECT_EQ(log_.next(), "message 3 of 0");
}

TEST_F(NcclPeer, WhatALaneBringsIsBelievedOnceThePeerHasMovedIt) {
  const auto lanes = std::make_shared<GarbageLanes>();
  meet(/*knows=*/true, lanes);
  offer();
  for (uint64_t number = 1; number <= 2; ++number) {
    announce({.kind = NoteKind::kAnnounce, .lane = 1, .number = number, .payload_bytes = 4});
  }
  while (lanes->num_received < 2) std::this_thread::yield();
  tell({.kind = NoteKind::kInstead, .number = 1}, std::vector<std::byte>(4, std::byte{7}));
  EXPECT_EQ(log_.next(), "message 1 of 7");
  tell_message(3);
  tell({.kind = NoteKind::kMoved, .number = 2});
  EXPECT_EQ(log_.next(), "message 1 of 99");
  EXPECT_EQ(log_.next(), "message 3 of 0");
}

struct Nonsense {
  const char* name;
  const char* answer;
  void (*say)(NcclPeer&);
};

class NcclNonsense : public NcclPeer, public ::testing::WithParamInterface<Nonsense> {};

TEST_P(NcclNonsense, IsListenedToNoMore) {
  meet(/*knows=*/true);
  GetParam().say(*this);
  EXPECT_THAT(log_.next(), AllOf(StartsWith("down: "), HasSubstr(GetParam().answer)));
  EXPECT_FALSE(transport_->send(kPeer, kHeader, {}, {}));
}

Note announcement(uint64_t number, uint64_t payload_bytes) {
  return {.kind = NoteKind::kAnnounce, .lane = 1, .number = number, .payload_bytes = payload_bytes};
}

const Nonsense kNonsense[] = {
    {"no_note", "NCCL note of 3 bytes", [](NcclPeer& peer) { peer.tell_bytes(3); }},
    {"received_what_was_not_sent", "has received message 1 of 0",
     [](NcclPeer& peer) { peer.tell({.kind = NoteKind::kReceived, .number = 1}); }},
    {"a_lane_that_was_not_offered", "by lane 1, which it never had",
     [](NcclPeer& peer) { peer.announce(announcement(1, 1)); }},
    {"moved_what_was_not_announced", "has moved message 1 of 0",
     [](NcclPeer& peer) { peer.tell({.kind = NoteKind::kMoved, .number = 1}); }},
    {"a_gap", "announces message 2 after 0",
     [](NcclPeer& peer) { peer.announce(announcement(2, 1)); }},
    {"another_size", "announced message 1 with 100 bytes, and sends 1",
     [](NcclPeer& peer) {
       peer.offer();
       peer.announce(announcement(1, 100));
       peer.tell({.kind = NoteKind::kInstead, .number = 1}, kHeader);
     }},
    {"another_size_than_head_and_tail", "announced message 1 with 100 bytes, and sends 99",
     [](NcclPeer& peer) {
       peer.offer();
       Note announced = announcement(1, 100);
       announced.has_tail = true;
       peer.tell(announced, kHeader, kHeader);
       peer.tell({.kind = NoteKind::kInstead, .number = 1}, std::vector<std::byte>(99));
     }},
    {"too_much", "sends on while an announced payload is awaited",
     [](NcclPeer& peer) {
       peer.offer();
       for (uint64_t i = 1; i <= 3; ++i) peer.announce(announcement(i, kMaxPayloadBytes));
     }},
};

INSTANTIATE_TEST_SUITE_P(Nccl, NcclNonsense, ::testing::ValuesIn(kNonsense),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace pregate::transport
