// Messages from one peer: those of the carrier and those whose payloads come by a lane, put back
// into the order in which they were sent.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "transport/nccl/note.h"
#include "transport/nccl/shared.h"

namespace pregate::transport {

/// Thread-safe. What the carrier brings is handed on at once, or kept while a payload is awaited
/// that was announced before. A tail that a lane brings is put into the device's memory, if there
/// is room.
class Inbound {
 public:
  Inbound(PeerId peer, NcclShared& shared) : peer_(peer), shared_(shared) {}
  /// Waits for its thread: close() came before, and no callback may hold it up.
  ~Inbound();

  // What the carrier brings, by one thread at a time. Errors: the peer is not to be listened to any
  // more.
  Status receive(std::span<const std::byte> header, Payload payload);
  Status announced(const ReceivedNote& note);
  Status moved(const ReceivedNote& note);
  Status instead(const ReceivedNote& note);
  /// A lane is offered; it takes the place of an earlier one.
  void offered(const ReceivedNote& note);

  /// Nothing is handed on any more.
  void close();
  /// Whether the destructor would not wait.
  bool has_ended() const;

 private:
  struct Message {
    uint64_t number = 0;  // 0: brought by the carrier
    uint32_t lane = 0;
    size_t bytes = 0;
    std::vector<std::byte> header;
    Payload head;           // of a payload with a tail
    bool has_tail = false;  // and what the lane brings is that
    std::optional<Payload> payload;
    bool is_sure = true;  // the payload is what was sent; of a lane, once the peer says so
    bool is_complete() const { return is_sure && payload; }
  };
  enum class State : uint8_t { kNone, kJoining, kUp, kBroken };

  Status keep_locked(Message message);
  void deliver();
  void tell_received(uint64_t number);
  void run();
  void open_lane(std::unique_lock<std::mutex>& lock);
  void take(std::unique_lock<std::mutex>& lock, const Message& message);
  void break_locked(const Error& why);
  void drop_lane(std::unique_lock<std::mutex>& lock);
  void tell_the_rest(std::unique_lock<std::mutex>& lock);
  bool has_news_locked() const { return received_ > told_received_ || untold_broken_; }
  const Message* next_locked() const;
  Message* find_locked(uint64_t number);

  const PeerId peer_;
  NcclShared& shared_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All below guarded by mutex_.
  std::deque<Message> messages_;  // in the order they were sent
  size_t kept_bytes_ = 0;
  uint64_t last_announced_ = 0;
  uint32_t last_offer_ = 0;       // number of a lane
  std::optional<LaneKey> offer_;  // its key; not taken yet
  State state_ = State::kNone;
  std::shared_ptr<Lane> lane_;           // made and dropped by the thread
  std::shared_ptr<std::byte[]> in_use_;  // where the lane failed; until that is dropped
  uint32_t lane_number_ = 0;
  uint64_t received_ = 0, told_received_ = 0;  // numbers of messages
  std::optional<uint32_t> untold_broken_;      // number of a lane
  bool closed_ = false;
  bool ended_ = true;  // no thread, or it is at its end
  std::thread thread_;
};

}  // namespace pregate::transport
