#include "worker/worker.h"

#include <thread>

#include "base/log.h"

namespace pregate::worker {
namespace {

using protocol::MessageType;

constexpr auto kIdleWait = std::chrono::milliseconds(100);
constexpr auto kLinger = std::chrono::seconds(1);

}  // namespace

Worker::Worker(WorkerParts parts, WorkerOptions options)
    : transport_(parts.transport),
      clock_(parts.clock),
      probe_(parts.probe),
      options_(std::move(options)),
      store_(options_.session.weight_format),
      loader_(std::move(parts.read_expert), options_.session.capacity, store_, parts.clock,
              parts.probe),
      queue_(options_.max_queued_requests),
      cache_(parts.cache == nullptr
                 ? nullptr
                 : std::make_unique<PlannedCache>(*parts.cache, store_, parts.num_layers)),
      server_(store_, parts.backend, parts.clock, parts.probe, cache_.get()),
      session_(
          {parts.transport, loader_, parts.clock, parts.random, parts.probe}, options_.session,
          [this] { return queue_.size(); }, [this](const Ending& ending) { end(ending); }) {
  if (!parts.device_memory) return;
  server_.put_answers([this, memory = std::move(parts.device_memory)](size_t bytes) {
    return transport_.takes_tail(options_.session.coordinator, bytes) ? memory : nullptr;
  });
}

// The threads.

int Worker::run() {
  start();
  {
    const std::jthread ticking([this] {
      while (!is_over()) tick_wakeup_.wait_until(tick(), clock_);
    });
    const std::jthread loading([this] {
      while (!is_over()) load_wakeup_.wait_until(load_next(), clock_);
    });
    while (!is_over()) serve(wait_for_requests());
  }
  return finish();
}

void Worker::stop() { end({}); }

void Worker::drain() {
  session_.ask_to_leave();
  tick_wakeup_.wake();
}

void Worker::end(const Ending& ending) {
  failed_ = failed_ || ending.failed;
  peers_lost_ = peers_lost_ || ending.peers_lost;
  over_ = true;
  queue_.wake();
  transport_.interrupt_drive();
  tick_wakeup_.wake();
  load_wakeup_.wake();
}

Worker::Stage Worker::stage() const {
  if (!session_.joined_connection()) return Stage::kJoining;
  return loader_.state().complete ? Stage::kReady : Stage::kLoading;
}

// The steps.

void Worker::start() {
  transport_.start(session_.hello(), events());
  session_.dial();
}

TimePoint Worker::tick() { return session_.tick(); }

TimePoint Worker::load_next() {
  const TimePoint next = loader_.step();
  if (const auto failure = loader_.failure(); failure && !is_over()) {
    spdlog::error("cannot load experts, leaving: {}", failure->message);
    end({.failed = true, .peers_lost = true});
  }
  tick_wakeup_.wake();
  return next;
}

/// Spends the wait in the transport, if that can be: then a request needs no thread but this one.
std::vector<PendingRequest> Worker::wait_for_requests() {
  const auto is_ready = [this] { return queue_.is_ready(); };
  const bool driven = transport_.drive(system_clock().now() + kIdleWait, is_ready);
  return queue_.pop_batch(driven ? Duration::zero() : kIdleWait);
}

bool Worker::serve_next() { return serve(queue_.pop_batch(Duration::zero())); }

bool Worker::serve(std::vector<PendingRequest> requests) {
  if (requests.empty()) return false;
  probe_.queue_depth(queue_.size());
  for (Answer& answer : server_.serve(requests)) {
    session_.send(answer.connection, encode_header(answer.reply), std::move(answer.payload));
  }
  return true;
}

int Worker::finish() {
  std::optional<Error> why = loader_.failure();
  if (why) why = in_context(std::move(*why), options_.session.name);
  session_.close(why);
  transport_.stop({.linger = kLinger, .peers_lost = peers_lost_});
  return failed_ ? 1 : 0;
}

// What the transport tells.

transport::Events Worker::events() {
  transport::Events events;
  events.peer_up = [this](transport::PeerId peer, const transport::Hello& hello) {
    if (peer != options_.session.coordinator) return;
    session_.link_up(hello);
    queue_.clear();
    probe_.queue_depth(0);
    tick_wakeup_.wake();
  };
  events.peer_down = [this](transport::PeerId peer, const Error& error) {
    if (peer != options_.session.coordinator) return;
    session_.link_down(error);
    tick_wakeup_.wake();
  };
  events.receive = [this](transport::PeerId from, std::span<const std::byte> header,
                          transport::Payload payload) {
    if (from == options_.session.coordinator) receive(header, std::move(payload));
  };
  return events;
}

void Worker::receive(std::span<const std::byte> header, transport::Payload payload) {
  session_.heard();
  probe_.received(header.size() + payload.size());
  const Status handled = handle(header, std::move(payload));
  if (!handled) spdlog::error("message from the coordinator: {}", handled.error().message);
}

Status Worker::handle(std::span<const std::byte> header, transport::Payload payload) {
  PREGATE_ASSIGN(const MessageType type, protocol::decode_type(header));
  if (type == MessageType::kExpertRequest) return accept_request(header, std::move(payload));
  if (payload.tail() != nullptr) {
    return fail(ErrorCode::kDataLoss, "message of type {} with a tail", static_cast<int>(type));
  }
  switch (type) {
    case MessageType::kAssignExperts:
      return accept_assignment(header, payload);
    case MessageType::kExpertPlan:
      return accept_plan(header, payload);
    case MessageType::kHeartbeat:
      return protocol::decode_heartbeat(header).map(
          [this](const auto& heartbeat) { session_.seen_by_coordinator(heartbeat); });
    case MessageType::kChallenge:
      return protocol::decode_challenge(header).map([this](const auto& challenge) {
        session_.challenged(challenge);
        tick_wakeup_.wake();
      });
    case MessageType::kWelcome:
      return protocol::decode_welcome(header).map([this](const auto& welcome) {
        session_.welcomed(welcome);
        tick_wakeup_.wake();
      });
    case MessageType::kRefusal:
      return protocol::decode_refusal(header).map([this](const auto& refusal) {
        session_.refused(refusal);
        tick_wakeup_.wake();
      });
    case MessageType::kGoodbye:
      return protocol::decode_goodbye(header).map(
          [this](const auto& goodbye) { session_.dismissed(goodbye); });
    default:
      return fail(ErrorCode::kInvalidArgument, "a worker takes no message of type {}",
                  static_cast<int>(type));
  }
}

Status Worker::accept_assignment(std::span<const std::byte> header,
                                 const transport::Payload& payload) {
  PREGATE_ASSIGN(const auto assignment, protocol::decode_assign_experts(header, payload.bytes()));
  // Before it is joined the coordinator has not shown yet who it is.
  if (!session_.joined_connection()) return {};
  loader_.assign(assignment);
  load_wakeup_.wake();
  return {};
}

Status Worker::accept_plan(std::span<const std::byte> header, const transport::Payload& payload) {
  PREGATE_ASSIGN(const auto plan, protocol::decode_expert_plan(header, payload.bytes()));
  const auto connection = session_.joined_connection();
  if (cache_ && connection) cache_->expect(*connection, plan);
  return {};
}

Status Worker::accept_request(std::span<const std::byte> header, transport::Payload payload) {
  PendingRequest pending;
  const transport::DeviceTail* const tail = payload.tail();
  const std::span<const std::byte> rows(tail ? tail->data.get() : nullptr, tail ? tail->size : 0);
  PREGATE_ASSIGN(pending.request, protocol::decode_expert_request(header, payload.head(), rows));
  const auto connection = session_.joined_connection();
  if (!connection) return {};
  pending.connection = *connection;
  pending.payload = std::move(payload);
  pending.arrived = clock_.now();
  if (queue_.try_push(std::move(pending))) return {};
  probe_.request_failed(ErrorCode::kResourceExhausted);
  protocol::ExpertReply reply;
  reply.request = pending.request.request;
  reply.status = fail(ErrorCode::kResourceExhausted, "{} requests are waiting already",
                      options_.max_queued_requests);
  session_.send(*connection, encode_header(reply));
  return {};
}

}  // namespace pregate::worker
