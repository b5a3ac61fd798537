// Payloads that end in a device's memory, between two processes: where they arrive, and what
// becomes of them when their lane is not there, breaks or is given up.
#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "tests/conformance/transport/socket_lanes.h"
#include "tests/support/device_memories.h"
#include "transport/inproc/hub.h"

namespace pregate::transport {
namespace {

constexpr PeerId kSender{0}, kReceiver{1};
constexpr size_t kHead = 3000, kTail = 100'000;
constexpr auto kPatience = std::chrono::seconds(20);

bool comes_true(const std::function<bool()>& what) {
  const TimePoint until = system_clock().now() + kPatience;
  while (!what()) {
    if (system_clock().now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// Lanes that a test has break or stand still.
class TestLanes final : public LaneMaker {
 public:
  Result<LaneKey> make_key() override { return sockets_.make_key(); }
  std::unique_ptr<Lane> make_lane() override {
    return std::make_unique<TestLane>(*this, sockets_.make_lane());
  }

  std::atomic<bool> breaks_next{false};  ///< The next transfer of this end, in the middle.
  /// Called in the middle of that.
  std::function<void()> on_break;
  std::atomic<bool> stands_still{false};
  std::atomic<bool> is_standing{false};
  /// Called before a lane whose transfer failed is destroyed, by its thread.
  std::function<void()> on_drop;

 private:
  class TestLane final : public Lane {
   public:
    TestLane(TestLanes& all, std::unique_ptr<Lane> lane) : all_(all), lane_(std::move(lane)) {}
    ~TestLane() override {
      if (failed_ && all_.on_drop) all_.on_drop();
    }
    Status join(const LaneKey& key, LaneEnd end, TimePoint until) override {
      return lane_->join(key, end, until);
    }
    Status send(const LaneBytes<const std::byte>& from, Duration max_stall) override {
      if (all_.stands_still) return stand_still();
      if (!all_.breaks_next.exchange(false)) return noted(lane_->send(from, max_stall));
      const auto half = from.bytes.first(from.bytes.size() / 2);
      (void)lane_->send({half, from.memory}, max_stall);
      if (all_.on_break) all_.on_break();
      return noted(fail(ErrorCode::kUnavailable, "broken by the test"));
    }
    Status receive(const LaneBytes<std::byte>& to, Duration max_stall) override {
      return noted(lane_->receive(to, max_stall));
    }
    void cancel() override {
      cancelled_ = true;
      lane_->cancel();
    }

   private:
    Status noted(Status status) {
      failed_ = failed_ || !status;
      return status;
    }
    Status stand_still() {
      all_.is_standing = true;
      while (!cancelled_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return noted(fail(ErrorCode::kCancelled, "given up"));
    }

    TestLanes& all_;
    const std::unique_ptr<Lane> lane_;
    std::atomic<bool> cancelled_{false};
    bool failed_ = false;
  };

  SocketLanes sockets_;
};

struct Received {
  int number = 0;
  Payload payload;
};

/// One of the two processes.
struct End {
  std::shared_ptr<ScrambledMemory> memory = std::make_shared<ScrambledMemory>();
  std::shared_ptr<TestLanes> lanes = std::make_shared<TestLanes>();
  CountingProbe probe;
  std::unique_ptr<Transport> carrier, transport;
};

std::vector<std::byte> bytes_of(int number, size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = std::byte(size_t(number) * 7 + i * 31 + i / 4096);
  return bytes;
}

class NcclTails : public ::testing::Test {
 protected:
  /// Ends without memory have none.
  void open() {
    for (const PeerId id : {kSender, kReceiver}) end(id).carrier = hub_.attach(id);
    for (const PeerId id : {kSender, kReceiver}) {
      NcclOptions options = eager_options(kDefaultInFlightBytes);
      options.device_memory = end(id).memory;
      End& it = end(id);
      it.transport = make_nccl_transport(*it.carrier, it.lanes, it.probe, options);
      Events events;
      events.peer_up = [this](PeerId, const Hello&) { ++num_up_; };
      events.receive = [this](PeerId, std::span<const std::byte> header, Payload payload) {
        const std::lock_guard lock(mutex_);
        received_.push_back({int(header[0]), std::move(payload)});
      };
      it.transport->start({1, id.value + 10, {}}, std::move(events));
    }
    sender_.transport->connect(kReceiver);
    ASSERT_TRUE(comes_true([this] { return num_up_ == 2; }));
  }
  /// By the carrier, until there is a lane. Number 0.
  void bring_up_a_lane() {
    send_bytes(0, Payload::copy_of(bytes_of(0, 2000)));
    ASSERT_TRUE(comes_true([this] { return sender_.transport->takes_tail(kReceiver, kTail); }));
    next();
  }

  Payload payload_of(int number, size_t head = kHead) const {
    const auto bytes = bytes_of(number, head + kTail);
    const auto first = std::span(bytes).first(head);
    return with_tail(sender_.memory, Payload::copy_of(first), std::span(bytes).subspan(head));
  }
  void send_bytes(int number, Payload payload) {
    // Of a size at which what follows it in a note lies anywhere.
    const std::byte header[] = {std::byte(number), {}, {}};
    ++num_sent_;
    const Status sent = sender_.transport->send(kReceiver, header, std::move(payload),
                                                [this](const Status& status) {
                                                  ++num_completed_;
                                                  if (!status) ++num_failed_;
                                                });
    EXPECT_TRUE(sent);
  }
  void send(int number) { send_bytes(number, payload_of(number)); }

  Received next() {
    Received next{-1, {}};
    EXPECT_TRUE(comes_true([&] {
      const std::lock_guard lock(mutex_);
      if (received_.empty()) return false;
      next = std::move(received_.front());
      received_.pop_front();
      return true;
    }));
    return next;
  }
  /// Returns whether the tail is in device memory.
  bool expect_next(int number, size_t head = kHead) {
    const Received message = next();
    EXPECT_EQ(message.number, number);
    EXPECT_TRUE(std::ranges::equal(message.payload.on_host().value().bytes(),
                                   bytes_of(number, head + kTail)))
        << number;
    const auto place = reinterpret_cast<uintptr_t>(message.payload.head().data());
    EXPECT_EQ(place % kPayloadAlignment, 0U);
    return message.payload.tail() != nullptr;
  }
  bool is_received(int number) {
    const std::lock_guard lock(mutex_);
    return std::ranges::any_of(received_, [&](const auto& it) { return it.number == number; });
  }
  bool all_completed() const { return num_completed_ == num_sent_; }
  void stop() {
    for (const PeerId id : {kSender, kReceiver}) end(id).transport->stop({.linger = {}});
    const std::lock_guard lock(mutex_);
    received_.clear();
  }
  End& end(PeerId id) { return id == kSender ? sender_ : receiver_; }

  InprocHub hub_;
  std::mutex mutex_;
  std::deque<Received> received_;  // guarded by mutex_
  std::atomic<int> num_up_{0}, num_sent_{0}, num_completed_{0}, num_failed_{0};
  End sender_, receiver_;  // ended before what they call
};

TEST_F(NcclTails, GoFromOneMemoryToTheOther) {
  open();
  bring_up_a_lane();
  send(1);
  send_bytes(2, payload_of(2, /*head=*/0));
  EXPECT_TRUE(expect_next(1));
  EXPECT_TRUE(expect_next(2, /*head=*/0));
  EXPECT_TRUE(comes_true([this] { return all_completed(); }));
  EXPECT_EQ(sender_.probe.device_sent_bytes, 2 * kTail);
  EXPECT_EQ(receiver_.probe.device_received_bytes, 2 * kTail);
  EXPECT_EQ(receiver_.probe.received_bytes, 2 * kTail) << "heads are not by the lane";
  EXPECT_TRUE(comes_true([this] { return sender_.memory->used_bytes() == 0; }));
  EXPECT_TRUE(comes_true([this] { return receiver_.memory->used_bytes() == 0; }));
}

TEST_F(NcclTails, ArriveOnTheHostWhereThereIsNoMemory) {
  receiver_.memory = nullptr;
  open();
  bring_up_a_lane();
  send(1);
  EXPECT_FALSE(expect_next(1));
  EXPECT_TRUE(comes_true([this] { return all_completed(); }));
  EXPECT_EQ(sender_.probe.device_sent_bytes, kTail);
  EXPECT_EQ(receiver_.probe.received_bytes, kTail);
  EXPECT_EQ(receiver_.probe.device_received_bytes, 0U);
}

TEST_F(NcclTails, ArriveOnTheHostWhileMemoryIsFull) {
  receiver_.memory = std::make_shared<ScrambledMemory>(kTail + 1);
  open();
  bring_up_a_lane();
  send(1);
  send(2);
  Received kept = next();
  EXPECT_NE(kept.payload.tail(), nullptr);
  EXPECT_FALSE(expect_next(2));
  kept = {};
  send(3);
  EXPECT_TRUE(expect_next(3));
  EXPECT_EQ(receiver_.probe.device_received_bytes, 2 * kTail);
  EXPECT_EQ(receiver_.probe.received_bytes, 3 * kTail);
}

TEST_F(NcclTails, GoByTheCarrierUntilALaneIsUp) {
  open();
  EXPECT_FALSE(sender_.transport->takes_tail(kReceiver, kTail));
  send(1);
  EXPECT_FALSE(expect_next(1));
  EXPECT_EQ(sender_.probe.device_sent_bytes, 0U);
  EXPECT_TRUE(comes_true([this] { return sender_.transport->takes_tail(kReceiver, kTail); }));
  send(2);
  EXPECT_TRUE(expect_next(2));
}

TEST_F(NcclTails, AreTakenIfTheyAreLargeAndOfTheMemoryOfTheLanes) {
  open();
  bring_up_a_lane();
  const Transport& transport = *sender_.transport;
  EXPECT_TRUE(transport.takes_tail(kReceiver, 1000));
  EXPECT_FALSE(transport.takes_tail(kReceiver, 999));
  EXPECT_FALSE(transport.takes_tail(kReceiver, kMaxPayloadBytes));
  EXPECT_FALSE(transport.takes_tail(PeerId(7), kTail));
  EXPECT_FALSE(sender_.carrier->takes_tail(kReceiver, kTail));
  const auto bytes = bytes_of(1, kHead + kTail);
  const auto head = Payload::copy_of(std::span(bytes).first(kHead));
  const auto elsewhere = std::make_shared<ScrambledMemory>();
  send_bytes(1, with_tail(elsewhere, head, std::span(bytes).subspan(kHead)));
  EXPECT_FALSE(expect_next(1));
  const auto most = Payload::copy_of(std::span(bytes).first(kHead + kTail - 999));
  send_bytes(1, with_tail(sender_.memory, most, std::span(bytes).last(999)));
  EXPECT_FALSE(expect_next(1));
  EXPECT_TRUE(comes_true([this] { return all_completed(); }));
  EXPECT_EQ(sender_.probe.device_sent_bytes, 0U);
}

TEST_F(NcclTails, AreNotTakenWithoutMemory) {
  const auto memory = std::exchange(sender_.memory, nullptr);
  open();
  send_bytes(0, Payload::copy_of(bytes_of(0, 2000)));
  EXPECT_TRUE(comes_true([this] { return sender_.probe.lanes == 1; }));
  EXPECT_FALSE(sender_.transport->takes_tail(kReceiver, kTail));
  next();
  sender_.memory = memory;
  send(1);
  EXPECT_FALSE(expect_next(1));
}

/// What the lane was to bring comes by the carrier, and what is sent after it later.
TEST_F(NcclTails, WhoseLaneBreaksComeByTheCarrier) {
  open();
  bring_up_a_lane();
  send(1);
  EXPECT_TRUE(expect_next(1));
  sender_.lanes->breaks_next = true;
  for (int number = 2; number <= 5; ++number) {
    send(number);
    send_bytes(10 + number, {});
  }
  for (int number = 2; number <= 5; ++number) {
    (void)expect_next(number);
    EXPECT_EQ(next().number, 10 + number);
  }
  EXPECT_TRUE(comes_true([this] { return all_completed(); }));
  EXPECT_EQ(num_failed_, 0);
  EXPECT_GT(sender_.probe.broken_lanes, 0U);
  EXPECT_TRUE(comes_true([this] { return sender_.memory->used_bytes() == 0; }));
  EXPECT_TRUE(comes_true([this] { return receiver_.memory->used_bytes() == 0; }));
}

/// The device may be at work there, though the message has gone another way and nobody wants it.
TEST_F(NcclTails, StayUntilTheLaneThatFailedIsGone) {
  std::atomic<size_t> left_at_sender{0}, left_at_receiver{0};
  sender_.lanes->on_drop = [&] {
    EXPECT_TRUE(comes_true([this] { return all_completed(); }));
    left_at_sender = sender_.memory->used_bytes();
  };
  receiver_.lanes->on_drop = [&] {
    EXPECT_TRUE(comes_true([this] { return is_received(1); }));
    left_at_receiver = receiver_.memory->used_bytes();
  };
  open();
  bring_up_a_lane();
  // A receiver that is late has taken no memory yet.
  sender_.lanes->on_break = [this] {
    EXPECT_TRUE(comes_true([this] { return receiver_.memory->used_bytes() == kTail; }));
  };
  sender_.lanes->breaks_next = true;
  send(1);
  EXPECT_TRUE(comes_true([&] { return left_at_sender > 0 && left_at_receiver > 0; }));
  EXPECT_EQ(left_at_sender, kTail);
  EXPECT_EQ(left_at_receiver, kTail);
  EXPECT_FALSE(expect_next(1));
  EXPECT_TRUE(comes_true([this] { return sender_.memory->used_bytes() == 0; }));
  EXPECT_TRUE(comes_true([this] { return receiver_.memory->used_bytes() == 0; }));
  stop();
}

TEST_F(NcclTails, OfWhoIsGivenUpAreGivenBack) {
  open();
  bring_up_a_lane();
  sender_.lanes->stands_still = true;
  for (int number = 1; number <= 3; ++number) send(number);
  EXPECT_TRUE(comes_true([this] { return sender_.lanes->is_standing.load(); }));
  EXPECT_TRUE(comes_true([this] { return receiver_.memory->used_bytes() == kTail; }));
  receiver_.transport->disconnect(kSender);
  EXPECT_TRUE(comes_true([this] { return receiver_.memory->used_bytes() == 0; }));
  EXPECT_EQ(sender_.memory->used_bytes(), 3 * kTail);
  sender_.transport->disconnect(kReceiver);
  EXPECT_TRUE(comes_true([this] { return sender_.memory->used_bytes() == 0; }));
  EXPECT_EQ(num_failed_, 3);
}

TEST_F(NcclTails, AreGivenBackWhenTheTransportStops) {
  open();
  bring_up_a_lane();
  sender_.lanes->stands_still = true;
  for (int number = 1; number <= 3; ++number) send(number);
  EXPECT_TRUE(comes_true([this] { return sender_.lanes->is_standing.load(); }));
  stop();
  EXPECT_TRUE(all_completed());
  EXPECT_EQ(sender_.memory->used_bytes(), 0U);
  EXPECT_EQ(receiver_.memory->used_bytes(), 0U);
}

/// Lost with what was sent from it, and the order with that.
TEST_F(NcclTails, ThatCannotBeReadEndWhatIsSent) {
  open();
  const Payload lost = with_tail(std::make_shared<LostMemory>(), {}, bytes_of(1, kTail));
  const std::byte header[] = {std::byte{1}};
  const Status sent = sender_.transport->send(kReceiver, header, lost, {});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().message, "cuda:0 is lost");
  send(2);
  EXPECT_FALSE(expect_next(2));
}

}  // namespace
}  // namespace pregate::transport
