#include "transport/nccl/inbound.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace pregate::transport {
namespace {

/// Where a lane puts a payload, or its tail.
class Room {
 public:
  /// `head`: of a payload whose tail comes. It stays there if that goes to device memory, else what
  /// comes is put behind it.
  Room(size_t bytes, Payload head, std::shared_ptr<DeviceMemory> memory)
      : bytes_(bytes), head_(std::move(head)), memory_(std::move(memory)) {
    if (memory_ != nullptr && take_device_memory()) return;
    memory_.reset();
    const auto before = head_.bytes();
    data_ = allocate_payload(before.size() + bytes_);
    std::ranges::copy(before, data_.get());
  }

  const std::shared_ptr<std::byte[]>& data() const { return data_; }
  LaneBytes<std::byte> to() const {
    const size_t offset = memory_ != nullptr ? 0 : head_.size();
    return {{data_.get() + offset, bytes_}, memory_.get()};
  }
  /// Once the bytes are there.
  Payload payload() const {
    if (memory_ == nullptr) return {data_, head_.size() + bytes_};
    return {head_, {data_, bytes_, memory_}};
  }

 private:
  bool take_device_memory() {
    auto data = memory_->allocate(bytes_);
    if (data) data_ = std::move(*data);
    return data.has_value();
  }

  const size_t bytes_;
  const Payload head_;
  std::shared_ptr<DeviceMemory> memory_;  // null: on the host
  std::shared_ptr<std::byte[]> data_;
};

}  // namespace

Inbound::~Inbound() {
  if (thread_.joinable()) thread_.join();
}

Status Inbound::receive(std::span<const std::byte> header, Payload payload) {
  std::lock_guard callbacks(shared_.callback_mutex);
  {
    std::lock_guard lock(mutex_);
    if (closed_) return {};
    if (!messages_.empty()) {
      return keep_locked({.bytes = kMaxHeaderBytes + payload.size(),
                          .header = {header.begin(), header.end()},
                          .payload = std::move(payload)});
    }
  }
  // Nothing is before it: what a lane brought was taken out and handed on under callback_mutex.
  if (shared_.events.receive) shared_.events.receive(peer_, header, std::move(payload));
  return {};
}

Status Inbound::announced(const ReceivedNote& note) {
  std::lock_guard lock(mutex_);
  if (closed_) return {};
  if (note.number != last_announced_ + 1) {
    return fail(ErrorCode::kDataLoss, "peer {} announces message {} after {}", peer_, note.number,
                last_announced_);
  }
  if (note.lane > last_offer_) {
    return fail(ErrorCode::kDataLoss, "peer {} announces a payload by lane {}, which it never had",
                peer_, note.lane);
  }
  last_announced_ = note.number;
  return keep_locked({.number = note.number,
                      .lane = note.lane,
                      .bytes = kMaxHeaderBytes + note.payload_bytes,
                      .header = {note.header.begin(), note.header.end()},
                      .head = note.rest,
                      .has_tail = note.has_tail,
                      .is_sure = false});
}

Status Inbound::moved(const ReceivedNote& note) {
  {
    std::lock_guard lock(mutex_);
    if (note.number > last_announced_) {
      return fail(ErrorCode::kDataLoss, "peer {} has moved message {} of {}", peer_, note.number,
                  last_announced_);
    }
    if (Message* const message = find_locked(note.number)) message->is_sure = true;
  }
  deliver();
  return {};
}

/// Twice the bound of what a peer may have in flight, as what waits for a payload is in flight no
/// more for the carrier.
Status Inbound::keep_locked(Message message) {
  const size_t bound = 2 * shared_.options.max_in_flight_bytes;
  if (kept_bytes_ + message.bytes > bound) {
    return fail(ErrorCode::kResourceExhausted,
                "peer {} sends on while an announced payload is awaited: over {} bytes", peer_,
                bound);
  }
  kept_bytes_ += message.bytes;
  messages_.push_back(std::move(message));
  changed_.notify_all();
  return {};
}

Status Inbound::instead(const ReceivedNote& note) {
  {
    std::lock_guard lock(mutex_);
    Message* const message = find_locked(note.number);
    if (closed_ || message == nullptr || message->is_complete()) return {};  // the lane was faster
    if (message->bytes != kMaxHeaderBytes + note.rest.size()) {
      return fail(ErrorCode::kDataLoss, "peer {} announced message {} with {} bytes, and sends {}",
                  peer_, note.number, message->bytes - kMaxHeaderBytes, note.rest.size());
    }
    message->payload = note.rest;
    message->is_sure = true;
    if (lane_ && message->lane == lane_number_) lane_->cancel();  // the sender gave it up
  }
  deliver();
  return {};
}

void Inbound::offered(const ReceivedNote& note) {
  std::lock_guard lock(mutex_);
  if (closed_ || note.lane <= last_offer_) return;
  if (lane_) lane_->cancel();
  last_offer_ = note.lane;
  offer_.emplace();
  std::memcpy(offer_->data(), note.rest.bytes().data(), offer_->size());
  ended_ = false;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_all();
}

void Inbound::close() {
  std::deque<Message> messages;  // destroyed without the lock
  std::lock_guard lock(mutex_);
  if (std::exchange(closed_, true)) return;
  messages.swap(messages_);
  if (lane_) lane_->cancel();
  changed_.notify_all();
}

bool Inbound::has_ended() const {
  std::lock_guard lock(mutex_);
  return ended_;
}

/// Hands on, in order, what is complete.
void Inbound::deliver() {
  std::lock_guard callbacks(shared_.callback_mutex);
  for (;;) {
    Message message;
    {
      std::lock_guard lock(mutex_);
      if (closed_ || messages_.empty() || !messages_.front().is_complete()) return;
      message = std::move(messages_.front());
      messages_.pop_front();
      kept_bytes_ -= message.bytes;
      received_ = std::max(received_, message.number);
    }
    // Before it is handed on: its sender may be waiting for room.
    if (message.number > 0) tell_received(message.number);
    if (shared_.events.receive) {
      shared_.events.receive(peer_, message.header, std::move(*message.payload));
    }
  }
}

/// If the carrier has no room for the note, the thread says it later.
void Inbound::tell_received(uint64_t number) {
  const Status told = shared_.tell(peer_, {.kind = NoteKind::kReceived, .number = number});
  std::lock_guard lock(mutex_);
  if (told) told_received_ = std::max(told_received_, number);
  changed_.notify_all();
}

/// The next payload that the lane is to bring.
const Inbound::Message* Inbound::next_locked() const {
  if (state_ != State::kUp) return nullptr;
  const auto next = std::ranges::find_if(messages_, [&](const Message& message) {
    return message.number > 0 && message.lane == lane_number_ && !message.payload;
  });
  return next == messages_.end() ? nullptr : &*next;
}

Inbound::Message* Inbound::find_locked(uint64_t number) {
  const auto found = std::ranges::find(messages_, number, &Message::number);
  return found == messages_.end() ? nullptr : &*found;
}

void Inbound::run() {
  is_lane_thread = true;
  std::unique_lock lock(mutex_);
  while (!closed_) {
    if (has_news_locked()) tell_the_rest(lock);
    if (closed_) break;
    if (lane_ && (offer_ || state_ == State::kBroken)) {
      drop_lane(lock);
    } else if (offer_) {
      open_lane(lock);
    } else if (const Message* next = next_locked()) {
      take(lock, *next);
    } else if (has_news_locked()) {
      changed_.wait_for(lock, kNoteRetry);
    } else {
      changed_.wait(lock);
    }
  }
  drop_lane(lock);
  ended_ = true;
}

/// Without the lock, as it waits for the device.
void Inbound::drop_lane(std::unique_lock<std::mutex>& lock) {
  if (std::exchange(state_, State::kNone) == State::kUp) shared_.probe.lanes_changed(-1);
  std::shared_ptr<Lane> lane = std::exchange(lane_, nullptr);
  auto in_use = std::exchange(in_use_, nullptr);
  lock.unlock();
  lane.reset();
  in_use.reset();
  lock.lock();
}

void Inbound::open_lane(std::unique_lock<std::mutex>& lock) {
  const LaneKey key = *std::exchange(offer_, std::nullopt);
  const std::shared_ptr<Lane> lane = lane_ = shared_.lanes.make_lane();
  lane_number_ = last_offer_;
  state_ = State::kJoining;
  lock.unlock();
  const Status joined =
      lane->join(key, LaneEnd::kReceiver, system_clock().now() + shared_.options.join_timeout);
  lock.lock();
  if (!joined) return break_locked(joined.error());
  state_ = State::kUp;
  shared_.probe.lanes_changed(1);
}

void Inbound::take(std::unique_lock<std::mutex>& lock, const Message& message) {
  const uint64_t number = message.number;
  const Payload head = message.head;
  const size_t bytes = message.bytes - kMaxHeaderBytes - head.size();
  const auto memory = message.has_tail ? shared_.options.device_memory : nullptr;
  const std::shared_ptr<Lane> lane = lane_;
  lock.unlock();
  const Room room(bytes, head, memory);
  const LaneBytes<std::byte> to = room.to();
  const Status received = lane->receive(to, shared_.options.max_stall);
  lock.lock();
  if (!received) {
    in_use_ = room.data();
    return break_locked(received.error());
  }
  shared_.probe.received(bytes, to.memory != nullptr);
  Message* const awaited = find_locked(number);
  if (awaited == nullptr || awaited->payload) return;  // it came by the carrier
  awaited->payload = room.payload();
  lock.unlock();
  deliver();
  shared_.carrier.interrupt_drive();
  lock.lock();
}

void Inbound::break_locked(const Error& why) {
  if (closed_) return;
  spdlog::debug("the lane of NCCL from peer {} broke: {}", peer_, why.message);
  if (std::exchange(state_, State::kBroken) == State::kUp) shared_.probe.lanes_changed(-1);
  untold_broken_ = lane_number_;
}

/// What there is to say that was not said yet; what the carrier has no room for is said later.
void Inbound::tell_the_rest(std::unique_lock<std::mutex>& lock) {
  const uint64_t received = received_;
  const auto broken = untold_broken_;
  const bool is_news = received > told_received_;
  lock.unlock();
  const bool told_received =
      is_news && shared_.tell(peer_, {.kind = NoteKind::kReceived, .number = received});
  const bool told_broken =
      broken && shared_.tell(peer_, {.kind = NoteKind::kBroken, .lane = *broken});
  lock.lock();
  if (told_received) told_received_ = std::max(told_received_, received);
  if (told_broken && untold_broken_ == broken) untold_broken_.reset();
}

}  // namespace pregate::transport
