#include "transport/nccl/inbound.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace pregate::transport {

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
  const auto header = note.rest.bytes();
  std::lock_guard lock(mutex_);
  if (closed_) return {};
  if (note.number != last_announced_ + 1) {
    return fail(ErrorCode::kDataLoss, "peer {} announces message {} after {}", peer_, note.number,
                last_announced_);
  }
  last_announced_ = note.number;
  start_locked();
  return keep_locked({.number = note.number,
                      .lane = note.lane,
                      .bytes = kMaxHeaderBytes + note.payload_bytes,
                      .header = {header.begin(), header.end()}});
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
    if (closed_ || message == nullptr || message->payload) return {};  // the lane was faster
    if (message->bytes != kMaxHeaderBytes + note.rest.size()) {
      return fail(ErrorCode::kDataLoss, "peer {} announced message {} with {} bytes, and sends {}",
                  peer_, note.number, message->bytes - kMaxHeaderBytes, note.rest.size());
    }
    message->payload = note.rest;
    if (lane_ && message->lane == lane_number_) lane_->cancel();  // the sender gave it up
  }
  deliver();
  return {};
}

void Inbound::offered(const ReceivedNote& note) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  if (lane_) lane_->cancel();
  offer_ = Offer{.lane = note.lane};
  std::memcpy(offer_->key.data(), note.rest.bytes().data(), offer_->key.size());
  start_locked();
}

void Inbound::declined(const ReceivedNote& offer) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  untold_broken_ = offer.lane;
  start_locked();
}

void Inbound::start_locked() {
  ended_ = false;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_all();
}

void Inbound::close() {
  std::lock_guard lock(mutex_);
  if (std::exchange(closed_, true)) return;
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
      if (closed_ || messages_.empty() || !messages_.front().payload) return;
      message = std::move(messages_.front());
      messages_.pop_front();
      kept_bytes_ -= message.bytes;
      received_ = std::max(received_, message.number);
      changed_.notify_all();  // the sender is told by the lane's thread
    }
    if (shared_.events.receive) {
      shared_.events.receive(peer_, message.header, std::move(*message.payload));
    }
  }
}

/// The next payload that the lane is to bring.
const Inbound::Message* Inbound::next_locked() const {
  if (!lane_) return nullptr;
  const auto next = std::ranges::find_if(messages_, [&](const Message& message) {
    return message.number > 0 && message.lane == lane_number_ && !message.payload;
  });
  return next == messages_.end() ? nullptr : &*next;
}

Inbound::Message* Inbound::find_locked(uint64_t number) {
  const auto found = std::ranges::find_if(
      messages_, [&](const Message& message) { return message.number == number; });
  return found == messages_.end() ? nullptr : &*found;
}

void Inbound::run() {
  std::unique_lock lock(mutex_);
  while (!closed_) {
    if (received_ > told_received_ || untold_broken_) send_notes(lock);
    if (closed_) break;
    if (offer_) {
      open_lane(lock);
    } else if (const Message* next = next_locked()) {
      take(lock, *next);
    } else if (received_ > told_received_ || untold_broken_) {
      changed_.wait_for(lock, kNoteRetry);
    } else {
      changed_.wait(lock);
    }
  }
  if (lane_) shared_.probe.lanes_changed(-1);
  lane_.reset();
  ended_ = true;
}

void Inbound::open_lane(std::unique_lock<std::mutex>& lock) {
  const Offer offer = *std::exchange(offer_, std::nullopt);
  if (lane_) shared_.probe.lanes_changed(-1);
  const std::shared_ptr<Lane> lane = shared_.lanes.make_lane();
  lane_ = lane;
  shared_.probe.lanes_changed(1);
  lane_number_ = offer.lane;
  lock.unlock();
  const Status joined = lane->join(offer.key, LaneEnd::kReceiver,
                                   system_clock().now() + shared_.options.join_timeout);
  lock.lock();
  if (!joined) break_locked(joined.error());
}

void Inbound::take(std::unique_lock<std::mutex>& lock, const Message& message) {
  const uint64_t number = message.number;
  const size_t bytes = message.bytes - kMaxHeaderBytes;
  const std::shared_ptr<Lane> lane = lane_;
  lock.unlock();
  const auto data = allocate_payload(bytes);
  const Status received =
      lane->receive({data.get(), bytes}, system_clock().now() + shared_.options.transfer_timeout);
  lock.lock();
  if (!received) return break_locked(received.error());
  shared_.probe.received(bytes);
  Message* const complete = find_locked(number);
  if (complete == nullptr || complete->payload) return;  // it came by the carrier
  complete->payload = Payload(data, bytes);
  lock.unlock();
  deliver();
  shared_.carrier.interrupt_drive();
  lock.lock();
}

void Inbound::break_locked(const Error& why) {
  if (closed_ || !lane_) return;
  spdlog::debug("the lane of NCCL from peer {} broke: {}", peer_, why.message);
  shared_.probe.lanes_changed(-1);
  lane_.reset();
  untold_broken_ = lane_number_;
}

/// What there is to say; what the carrier has no room for is said later.
void Inbound::send_notes(std::unique_lock<std::mutex>& lock) {
  const uint64_t received = received_;
  const auto broken = untold_broken_;
  const bool is_news = received > told_received_;
  lock.unlock();
  const auto tell = [&](const Note& note) {
    return shared_.carrier.send(peer_, {}, encode_note(note), {}).has_value();
  };
  const bool told_received = is_news && tell({.kind = NoteKind::kReceived, .number = received});
  const bool told_broken = broken && tell({.kind = NoteKind::kBroken, .lane = *broken});
  lock.lock();
  if (told_received) told_received_ = received;
  if (told_broken && untold_broken_ == broken) untold_broken_.reset();
}

}  // namespace pregate::transport
