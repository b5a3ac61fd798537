#include "transport/nccl/outbound.h"

#include <algorithm>

#include "base/log.h"
#include "transport/peer_table.h"

namespace pregate::transport {
namespace {

/// Any note about a payload fits the carrier: with a header and most of it, or instead with all.
constexpr size_t kMaxLanePayloadBytes = kMaxPayloadBytes - kNoteBytes - kMaxHeaderBytes;

/// Every message counts as a full header and a note at least, so that their number is bounded as
/// well, and the carrier has room for what goes by it instead.
size_t counted_bytes(const Payload& payload) {
  return kMaxHeaderBytes + kNoteBytes + payload.size();
}

/// What of an announced payload the lane brings.
LaneBytes<const std::byte> lane_bytes_of(const Payload& payload) {
  const DeviceTail* const tail = payload.tail();
  if (tail == nullptr) return {payload.bytes()};
  return {{tail->data.get(), tail->size}, tail->memory.get()};
}

}  // namespace

Outbound::~Outbound() {
  if (thread_.joinable()) thread_.join();
}

Status Outbound::send(std::span<const std::byte> header, Payload payload, Completion done,
                      Wake wake) {
  PREGATE_TRY(check_size(header.size(), payload.size()));
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      PREGATE_TRY(check_room_locked(counted_bytes(payload)));
      const bool by_lane = takes_lane_locked(payload);
      if (by_lane || payload.tail() == nullptr) {
        return send_locked(header, std::move(payload), std::move(done), wake, by_lane);
      }
    }
    // Without the lock, as it waits for the device.
    PREGATE_ASSIGN(payload, payload.on_host());
  }
}

Status Outbound::send_locked(std::span<const std::byte> header, Payload payload, Completion done,
                             Wake wake, bool by_lane) {
  const size_t bytes = counted_bytes(payload);
  done = counted(bytes, std::move(done));
  *in_flight_bytes_ += bytes;
  has_sent_payload_ |= payload.size() > 0;
  // In this order and under the lock: announcements are numbered as they are sent.
  const Status sent = by_lane ? announce_locked(header, std::move(payload), std::move(done), wake)
                              : carry_locked(header, std::move(payload), std::move(done), wake);
  if (!sent) *in_flight_bytes_ -= bytes;
  return sent;
}

bool Outbound::takes_tail(size_t tail_bytes) const {
  std::lock_guard lock(mutex_);
  return shared_.options.device_memory != nullptr && is_for_lanes(tail_bytes) &&
         state_ == State::kUp && !closed_;
}

Status Outbound::check_room_locked(size_t bytes) const {
  const size_t bound = shared_.options.max_in_flight_bytes;
  if (closed_) return fail(ErrorCode::kUnavailable, "peer {} is not connected", peer_);
  if (*in_flight_bytes_ + bytes > bound) {
    return fail(ErrorCode::kResourceExhausted, "{} bytes to peer {} are in flight, the bound is {}",
                in_flight_bytes_->load(), peer_, bound);
  }
  if (bytes_behind_ + bytes > bound) {
    return fail(ErrorCode::kResourceExhausted,
                "{} bytes to peer {} wait for an earlier payload, the bound is {}", bytes_behind_,
                peer_, bound);
  }
  return {};
}

bool Outbound::is_for_lanes(size_t lane_bytes) const {
  return lane_bytes > 0 && lane_bytes >= shared_.options.min_payload_bytes &&
         lane_bytes <= kMaxLanePayloadBytes;
}

/// Also asks for a lane if there could be one.
bool Outbound::takes_lane_locked(const Payload& payload) {
  const LaneBytes<const std::byte> from = lane_bytes_of(payload);
  const bool can_read =
      from.memory == nullptr || from.memory == shared_.options.device_memory.get();
  if (!can_read || !is_for_lanes(from.bytes.size()) || payload.size() > kMaxLanePayloadBytes) {
    return false;
  }
  const bool may_try =
      state_ == State::kNone || (state_ == State::kBroken && system_clock().now() >= retry_at_);
  if (may_try) {
    state_ = State::kWanted;
    ended_ = false;
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    changed_.notify_all();
  }
  return state_ == State::kUp;
}

Completion Outbound::counted(size_t bytes, Completion done) const {
  return [&shared = shared_, in_flight = in_flight_bytes_, bytes,
          done = std::move(done)](const Status& status) {
    *in_flight -= bytes;
    if (!done) return;
    std::lock_guard lock(shared.callback_mutex);
    done(status);
  };
}

Status Outbound::hand_over(std::span<const std::byte> header, Payload payload, Completion done,
                           Wake wake) {
  Transport& carrier = shared_.carrier;
  if (wake == Wake::kNow || is_lane_thread) {
    return carrier.send(peer_, header, std::move(payload), std::move(done));
  }
  return carrier.queue(peer_, header, std::move(payload), std::move(done));
}

Status Outbound::carry_locked(std::span<const std::byte> header, Payload payload, Completion done,
                              Wake wake) {
  const size_t bytes = kMaxHeaderBytes + payload.size();
  // An empty header says that it is a note.
  if (header.empty()) payload = encode_note({.kind = NoteKind::kPlain}, payload.bytes());
  PREGATE_TRY(hand_over(header, std::move(payload), std::move(done), wake));
  if (!messages_.empty()) {
    messages_.back().bytes_behind += bytes;
    bytes_behind_ += bytes;
  }
  return {};
}

Status Outbound::announce_locked(std::span<const std::byte> header, Payload payload,
                                 Completion done, Wake wake) {
  const bool has_tail = payload.tail() != nullptr;
  const Note note{.kind = NoteKind::kAnnounce,
                  .lane = lane_number_,
                  .number = last_number_ + 1,
                  .payload_bytes = payload.size(),
                  .has_tail = has_tail};
  const auto head = has_tail ? payload.head() : std::span<const std::byte>();
  PREGATE_TRY(hand_over({}, encode_note(note, head, header), {}, wake));
  ++last_number_;
  messages_.push_back(
      {.number = last_number_, .payload = std::move(payload), .done = std::move(done)});
  changed_.notify_all();
  return {};
}

bool Outbound::has_sent_payload() const {
  std::lock_guard lock(mutex_);
  return has_sent_payload_;
}

Status Outbound::received(uint64_t number) {
  std::deque<Message> here;
  {
    std::lock_guard lock(mutex_);
    if (number > last_number_) {
      return fail(ErrorCode::kDataLoss, "peer {} has received message {} of {}", peer_, number,
                  last_number_);
    }
    while (!messages_.empty() && messages_.front().number <= number) {
      bytes_behind_ -= messages_.front().bytes_behind;
      here.push_back(std::move(messages_.front()));
      messages_.pop_front();
    }
  }
  for (const Message& message : here) message.done({});
  return {};
}

void Outbound::broken(uint32_t lane) {
  std::lock_guard lock(mutex_);
  if (lane == lane_number_) break_locked({ErrorCode::kUnavailable, "the other end gave it up"});
}

void Outbound::break_locked(const Error& why) {
  if (closed_ || (state_ != State::kUp && state_ != State::kJoining)) return;
  if (state_ == State::kUp) shared_.probe.lanes_changed(-1);
  shared_.probe.lane_broke();
  state_ = State::kBroken;
  const NcclOptions& options = shared_.options;
  pause_ = pause_ == Duration{} ? options.first_pause : std::min(2 * pause_, options.max_pause);
  retry_at_ = system_clock().now() + pause_;
  spdlog::warn("no NCCL to peer {} for {:.0f} s, large payloads go by {}: {}", peer_,
               to_seconds(pause_), shared_.carrier.name(), why.message);
  for (Message& message : messages_) {
    // What was sent again after an earlier lane is on its way.
    if (!std::exchange(message.resend, true)) message.moved = false;
  }
  if (lane_) lane_->cancel();
  changed_.notify_all();
}

void Outbound::close(const Error& why) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  closed_ = why;
  if (state_ == State::kUp) shared_.probe.lanes_changed(-1);
  if (lane_) lane_->cancel();
  changed_.notify_all();
}

bool Outbound::is_idle() const {
  std::lock_guard lock(mutex_);
  return messages_.empty();
}

bool Outbound::has_ended() const {
  std::lock_guard lock(mutex_);
  return ended_;
}

/// The first that is to be sent again, or to be moved by the lane.
Outbound::Message* Outbound::next_locked(bool resend) {
  const auto next = std::ranges::find_if(messages_, [&](const Message& message) {
    return message.resend == resend && !message.moved;
  });
  return next == messages_.end() ? nullptr : &*next;
}

Outbound::Message* Outbound::find_locked(uint64_t number) {
  const auto found = std::ranges::find(messages_, number, &Message::number);
  return found == messages_.end() ? nullptr : &*found;
}

void Outbound::run() {
  is_lane_thread = true;
  std::unique_lock lock(mutex_);
  while (!closed_) {
    if (const Message* again = next_locked(/*resend=*/true)) {
      resend(lock, again->number);
    } else if (lane_ && state_ != State::kUp) {
      drop_lane(lock);
    } else if (state_ == State::kWanted) {
      open_lane(lock);
    } else if (const Message* next = next_locked(/*resend=*/false)) {
      move(lock, next->number);
    } else {
      changed_.wait(lock);
    }
  }
  end(lock);
}

/// Without the lock, as it waits for the device. Soon after the lane broke, as what it began there
/// goes on until then.
void Outbound::drop_lane(std::unique_lock<std::mutex>& lock) {
  std::shared_ptr<Lane> lane = std::exchange(lane_, nullptr);
  Payload in_use = std::exchange(in_use_, {});
  lock.unlock();
  lane.reset();
  in_use = {};
  lock.lock();
}

void Outbound::open_lane(std::unique_lock<std::mutex>& lock) {
  state_ = State::kJoining;
  const uint32_t number = ++lane_number_;
  const std::shared_ptr<Lane> lane = lane_ = shared_.lanes.make_lane();
  lock.unlock();
  const Status joined = join(*lane, number);
  lock.lock();
  if (closed_ || state_ != State::kJoining) return;
  if (!joined) return break_locked(joined.error());
  state_ = State::kUp;
  shared_.probe.lanes_changed(1);
  spdlog::info("large payloads to peer {} go by NCCL", peer_);
}

Status Outbound::join(Lane& lane, uint32_t number) {
  PREGATE_ASSIGN(const LaneKey key, shared_.lanes.make_key());
  PREGATE_TRY(shared_.tell(peer_, {.kind = NoteKind::kOffer, .lane = number}, key));
  return lane.join(key, LaneEnd::kSender, system_clock().now() + shared_.options.join_timeout);
}

void Outbound::move(std::unique_lock<std::mutex>& lock, uint64_t number) {
  const Payload payload = find_locked(number)->payload;
  const std::shared_ptr<Lane> lane = lane_;
  lock.unlock();
  const LaneBytes<const std::byte> from = lane_bytes_of(payload);
  Status moved = lane->send(from, shared_.options.max_stall);
  // Not told, it is as if it had not been moved.
  if (moved) moved = shared_.tell(peer_, {.kind = NoteKind::kMoved, .number = number});
  lock.lock();
  if (!moved) {
    in_use_ = payload;
    return break_locked(moved.error());
  }
  shared_.probe.sent(from.bytes.size(), from.memory != nullptr);
  pause_ = {};
  Message* const message = find_locked(number);
  if (message != nullptr && !message->resend) message->moved = true;
}

/// It stays until the peer has it, whichever way it comes.
void Outbound::resend(std::unique_lock<std::mutex>& lock, uint64_t number) {
  if (find_locked(number)->payload.tail() != nullptr) return bring_to_host(lock, number);
  const Payload payload = find_locked(number)->payload;
  lock.unlock();
  const Status sent =
      shared_.tell(peer_, {.kind = NoteKind::kInstead, .number = number}, payload.bytes());
  lock.lock();
  if (!sent) {
    changed_.wait_for(lock, kNoteRetry);
  } else if (Message* const message = find_locked(number)) {
    message->moved = true;
  }
}

/// What the device does not give out any more cannot be sent, nor what comes after it.
void Outbound::bring_to_host(std::unique_lock<std::mutex>& lock, uint64_t number) {
  const Payload payload = find_locked(number)->payload;
  lock.unlock();
  auto on_host = payload.on_host();
  if (!on_host) {
    spdlog::error("nothing more goes to peer {}: {}", peer_, on_host.error().message);
    close(on_host.error());
  }
  lock.lock();
  Message* const message = find_locked(number);
  if (on_host && message != nullptr) message->payload = std::move(*on_host);
}

void Outbound::end(std::unique_lock<std::mutex>& lock) {
  drop_lane(lock);
  const auto messages = std::exchange(messages_, {});
  const Status why = fail(*closed_);
  lock.unlock();
  for (const Message& message : messages) message.done(why);
  shared_.carrier.interrupt_drive();
  lock.lock();
  ended_ = true;
}

}  // namespace pregate::transport
