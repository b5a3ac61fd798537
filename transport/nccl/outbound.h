// Messages to one peer: which go by the carrier, which by a lane, and what becomes of these when
// the lane breaks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <thread>

#include "transport/nccl/note.h"
#include "transport/nccl/shared.h"

namespace pregate::transport {

/// Thread-safe. A large payload is announced by a note, moved by the thread of the lane, and kept
/// until the peer says that the message was received. If the lane breaks, what the peer does not
/// have goes by the carrier. Of a payload with a tail the lane moves that, from where it is, and
/// the note brings the rest; the carrier brings all of it, which waits until the host has it.
class Outbound {
 public:
  Outbound(PeerId peer, NcclShared& shared) : peer_(peer), shared_(shared) {}
  /// Waits for its thread: close() came before, and no callback may hold it up.
  ~Outbound();

  enum class Wake : bool { kNow, kLater };  ///< Transport::send() or queue().
  /// As Transport::send().
  Status send(std::span<const std::byte> header, Payload payload, Completion done, Wake wake);
  /// As Transport::takes_tail().
  bool takes_tail(size_t tail_bytes) const;
  /// Whether the peer was sent more than headers.
  bool has_sent_payload() const;

  // What notes say. Not under a lock that completions want.
  Status received(uint64_t number);
  void broken(uint32_t lane);

  /// Messages that are not received end with `why`, soon and by another thread.
  void close(const Error& why);
  bool is_idle() const;
  /// Whether the destructor would not wait.
  bool has_ended() const;

 private:
  enum class State : uint8_t { kNone, kWanted, kJoining, kUp, kBroken };
  struct Message {
    uint64_t number = 0;
    Payload payload;
    Completion done;
    bool moved = false;       // by the lane, or by the carrier after all
    bool resend = false;      // by the carrier, when it has room
    size_t bytes_behind = 0;  // carried since, until the next one: kept by the peer until this came
  };

  Status check_room_locked(size_t bytes) const;
  Status send_locked(std::span<const std::byte> header, Payload payload, Completion done, Wake wake,
                     bool by_lane);
  Status carry_locked(std::span<const std::byte> header, Payload payload, Completion done,
                      Wake wake);
  Status announce_locked(std::span<const std::byte> header, Payload payload, Completion done,
                         Wake wake);
  Status hand_over(std::span<const std::byte> header, Payload payload, Completion done, Wake wake);
  bool is_for_lanes(size_t lane_bytes) const;
  bool takes_lane_locked(const Payload& payload);
  Completion counted(size_t bytes, Completion done) const;
  void run();
  void open_lane(std::unique_lock<std::mutex>& lock);
  Status join(Lane& lane, uint32_t number);
  void drop_lane(std::unique_lock<std::mutex>& lock);
  void move(std::unique_lock<std::mutex>& lock, uint64_t number);
  void resend(std::unique_lock<std::mutex>& lock, uint64_t number);
  void bring_to_host(std::unique_lock<std::mutex>& lock, uint64_t number);
  void break_locked(const Error& why);
  void end(std::unique_lock<std::mutex>& lock);
  Message* next_locked(bool resend);
  Message* find_locked(uint64_t number);

  const PeerId peer_;
  NcclShared& shared_;
  // Accepted and not complete; completions of the carrier may outlive this object.
  const std::shared_ptr<std::atomic<size_t>> in_flight_bytes_ =
      std::make_shared<std::atomic<size_t>>(0);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All below guarded by mutex_.
  State state_ = State::kNone;
  std::shared_ptr<Lane> lane_;  // made and dropped by the thread
  Payload in_use_;              // which the lane failed to move; until it is dropped
  uint32_t lane_number_ = 0;    // of the last one
  Duration pause_{};
  TimePoint retry_at_{};
  std::deque<Message> messages_;  // announced and not received, in order
  uint64_t last_number_ = 0;      // announced
  size_t bytes_behind_ = 0;       // of all messages_
  bool has_sent_payload_ = false;
  std::optional<Error> closed_;
  bool ended_ = true;  // no thread, or it is at its end
  std::thread thread_;
};

}  // namespace pregate::transport
