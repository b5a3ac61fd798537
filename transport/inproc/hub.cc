#include "transport/inproc/hub.h"

#include <condition_variable>
#include <deque>
#include <thread>

#include "base/check.h"
#include "transport/peer_table.h"

namespace pregate::transport {

/// What one endpoint puts into another's inbox (or its own: kDisconnect, kStop).
struct InprocHub::Event {
  enum class Kind { kHello, kMessage, kSent, kClosed, kDisconnect, kStop };
  Kind kind = Kind::kStop;
  PeerId peer;                    // where it comes from, or what it is about
  std::vector<std::byte> header;  // kMessage; the hello's bytes for kHello
  Payload payload;
  uint64_t send_id = 0;            // kMessage, kSent
  std::vector<Completion> failed;  // kDisconnect
};

/// Bounded by the senders: each stops at its bytes in flight.
struct InprocHub::Inbox {
  std::mutex mutex;
  std::condition_variable not_empty;
  std::deque<Event> events;  // guarded by mutex

  void push(Event event) {
    {
      std::lock_guard lock(mutex);
      events.push_back(std::move(event));
    }
    not_empty.notify_one();
  }

  Event pop() {
    std::unique_lock lock(mutex);
    not_empty.wait(lock, [this] { return !events.empty(); });
    Event event = std::move(events.front());
    events.pop_front();
    return event;
  }
};

namespace {

Status gone(PeerId peer) { return fail(ErrorCode::kUnavailable, "peer {} is gone", peer); }

}  // namespace

class InprocEndpoint final : public Transport {
 public:
  using Event = InprocHub::Event;
  using Kind = InprocHub::Event::Kind;

  InprocEndpoint(InprocHub& hub, PeerId self, std::shared_ptr<InprocHub::Inbox> inbox)
      : hub_(hub), self_(self), inbox_(std::move(inbox)), table_(hub.max_in_flight_bytes_) {}
  ~InprocEndpoint() override { stop({.linger = {}, .peers_lost = false}); }

  std::string name() const override { return "inproc"; }
  PeerId self() const override { return self_; }
  std::vector<PeerId> launched_peers() const override { return hub_.others(self_); }

  void start(Hello hello, Events events) override;
  void connect(PeerId peer) override;
  Status send(PeerId to, std::span<const std::byte> header, Payload payload,
              Completion done) override;
  void disconnect(PeerId peer) override;
  void stop(const StopOptions& options) override;

 private:
  void deliver_events();
  void handle(Event& event);
  void handle_hello(const Event& event);
  void handle_message(Event& event);
  void send_hello(PeerId peer);

  InprocHub& hub_;
  const PeerId self_;
  const std::shared_ptr<InprocHub::Inbox> inbox_;
  PeerTable table_;
  Events events_;          // constant once started
  std::thread thread_;     // runs deliver_events()
  bool stopping_ = false;  // own thread only
  bool stopped_ = false;   // the thread that calls stop()
};

InprocHub::InprocHub(size_t max_in_flight_bytes) : max_in_flight_bytes_(max_in_flight_bytes) {}
InprocHub::~InprocHub() = default;

std::unique_ptr<Transport> InprocHub::attach(PeerId self) {
  auto inbox = std::make_shared<Inbox>();
  {
    std::lock_guard lock(mutex_);
    PREGATE_CHECK(inboxes_.emplace(self, inbox).second);
    cut_.erase(self);
  }
  return std::make_unique<InprocEndpoint>(*this, self, std::move(inbox));
}

void InprocHub::cut(PeerId peer) {
  std::lock_guard lock(mutex_);
  cut_.insert(peer);
}

/// False if there is no such endpoint. The lock is held while pushing, so that detach() is a border
/// in time: afterwards nobody holds the inbox.
bool InprocHub::post(PeerId from, PeerId to, Event event) {
  std::lock_guard lock(mutex_);
  if (cut_.contains(from) || cut_.contains(to)) return true;
  const auto inbox = inboxes_.find(to);
  if (inbox == inboxes_.end()) return false;
  inbox->second->push(std::move(event));
  return true;
}

void InprocHub::detach(PeerId self) {
  std::lock_guard lock(mutex_);
  inboxes_.erase(self);
  if (cut_.contains(self)) return;
  for (const auto& [peer, inbox] : inboxes_) {
    if (!cut_.contains(peer)) inbox->push({Event::Kind::kClosed, self, {}, {}, 0, {}});
  }
}

std::vector<PeerId> InprocHub::others(PeerId self) const {
  std::lock_guard lock(mutex_);
  std::vector<PeerId> ids;
  for (const auto& [peer, inbox] : inboxes_) {
    if (peer != self) ids.push_back(peer);
  }
  return ids;
}

void InprocEndpoint::start(Hello hello, Events events) {
  table_.set_hello(hello);
  events_ = std::move(events);
  thread_ = std::thread([this] { deliver_events(); });
}

void InprocEndpoint::connect(PeerId peer) {
  if (table_.begin_greeting(peer)) send_hello(peer);
}

void InprocEndpoint::send_hello(PeerId peer) {
  const auto bytes = table_.hello_bytes();
  const bool sent =
      hub_.post(self_, peer, {Kind::kHello, self_, {bytes.begin(), bytes.end()}, {}, 0, {}});
  if (!sent) inbox_->push({Kind::kClosed, peer, {}, {}, 0, {}});
}

Status InprocEndpoint::send(PeerId to, std::span<const std::byte> header, Payload payload,
                            Completion done) {
  PREGATE_ASSIGN(const uint64_t id,
                 table_.admit(to, header.size(), payload.size(), std::move(done)));
  // If the peer has just detached, its kClosed is in our inbox and ends this send.
  hub_.post(self_, to,
            {Kind::kMessage, self_, {header.begin(), header.end()}, std::move(payload), id, {}});
  return {};
}

void InprocEndpoint::disconnect(PeerId peer) {
  Event event{Kind::kDisconnect, peer, {}, {}, 0, table_.mark_down(peer)};
  inbox_->push(std::move(event));
}

void InprocEndpoint::stop(const StopOptions& options) {
  if (std::exchange(stopped_, true)) return;
  const auto give_up = std::chrono::steady_clock::now() + options.linger;
  while (thread_.joinable() && table_.num_in_flight() > 0 &&
         std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  hub_.detach(self_);
  inbox_->push({Kind::kStop, self_, {}, {}, 0, {}});
  if (thread_.joinable()) thread_.join();
}

void InprocEndpoint::deliver_events() {
  while (!stopping_) {
    Event event = inbox_->pop();
    handle(event);
  }
}

void InprocEndpoint::handle(Event& event) {
  switch (event.kind) {
    case Kind::kHello:
      return handle_hello(event);
    case Kind::kMessage:
      return handle_message(event);
    case Kind::kSent:
      if (const auto done = table_.complete(event.send_id)) complete_all({*done}, {});
      return;
    case Kind::kClosed:
      complete_all(table_.mark_down(event.peer), gone(event.peer));
      if (events_.peer_down) events_.peer_down(event.peer, gone(event.peer).error());
      return;
    case Kind::kDisconnect:
      return complete_all(event.failed, gone(event.peer));
    case Kind::kStop:
      stopping_ = true;
      return complete_all(table_.take_all(), fail(ErrorCode::kCancelled, "transport stopped"));
  }
}

void InprocEndpoint::handle_hello(const Event& event) {
  auto greeting = table_.accept_hello(event.peer, event.header);
  if (greeting.answer) send_hello(event.peer);
  complete_all(greeting.failed, gone(event.peer));
  if (greeting.down && events_.peer_down) events_.peer_down(event.peer, *greeting.down);
  if (greeting.up && events_.peer_up) events_.peer_up(event.peer, *greeting.up);
}

void InprocEndpoint::handle_message(Event& event) {
  if (!table_.is_up(event.peer)) return;  // given up, or never greeted
  // Before it is received: who has a message may rely on its sender knowing that it was sent, even
  // if the receiver is cut off at once.
  hub_.post(self_, event.peer, {Kind::kSent, self_, {}, {}, event.send_id, {}});
  if (events_.receive) events_.receive(event.peer, event.header, std::move(event.payload));
}

}  // namespace pregate::transport
