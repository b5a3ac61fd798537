#include "worker/worker.h"

#include <unistd.h>

#include "base/log.h"
#include "base/random.h"

namespace pregate::worker {
namespace {

using protocol::MessageType;

constexpr auto kIdleWait = std::chrono::milliseconds(100);
constexpr auto kProgressInterval = std::chrono::milliseconds(100);
constexpr auto kLinger = std::chrono::seconds(1);

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace

Worker::Worker(transport::Transport& transport, compute::Backend& backend, ExpertLoader loader,
               WorkerOptions options, Probe& probe)
    : transport_(transport),
      backend_(backend),
      options_(options),
      probe_(probe),
      store_(std::move(loader)),
      queue_(options.max_queued_requests) {}

int Worker::run() {
  heartbeat_.emplace(
      options_.heartbeat, clock_,
      [this] {
        const auto depth = static_cast<uint32_t>(queue_.size());
        send(encode_header(protocol::Heartbeat{++num_beats_, depth}));
      },
      [this](Duration silence) {
        coordinator_lost(fmt::format("has said nothing for {:.1f} s", to_seconds(silence)));
      });
  transport_.start(hello(), events());
  transport_.connect(options_.coordinator);
  BatchServer server(store_, backend_, clock_, probe_);
  while (!stopping_) {
    if (const auto assignment = take_assignment()) load(*assignment);
    const auto requests = queue_.pop_batch(kIdleWait);
    probe_.queue_depth(queue_.size());
    for (Answer& answer : server.serve(requests)) {
      send(encode_header(answer.reply), std::move(answer.payload));
    }
  }
  leave();
  return failed_ ? 1 : 0;
}

void Worker::stop() {
  stopping_ = true;
  queue_.wake();
}

void Worker::leave() {
  heartbeat_.reset();
  send(encode_header(protocol::Goodbye{peers_lost_}));
  transport_.stop({.linger = kLinger, .peers_lost = peers_lost_});
}

transport::Hello Worker::hello() const {
  const protocol::HelloInfo info{protocol::Role::kWorker, static_cast<uint32_t>(::getpid()),
                                 host_name()};
  return {protocol::kProtocolVersion, seed_from_system(), protocol::encode_hello_info(info)};
}

transport::Events Worker::events() {
  transport::Events events;
  events.peer_up = [this](transport::PeerId, const transport::Hello&) { heartbeat_->heard(); };
  events.peer_down = [this](transport::PeerId peer, const Error& error) {
    if (peer == options_.coordinator) coordinator_lost(error.message);
  };
  events.receive = [this](transport::PeerId from, std::span<const std::byte> header,
                          transport::Payload payload) {
    if (from == options_.coordinator) receive(header, std::move(payload));
  };
  return events;
}

void Worker::coordinator_lost(const std::string& reason) {
  if (stopping_) return;
  spdlog::error("coordinator {}: {}; leaving", options_.coordinator, reason);
  transport_.disconnect(options_.coordinator);
  failed_ = true;
  peers_lost_ = true;
  stop();
}

void Worker::receive(std::span<const std::byte> header, transport::Payload payload) {
  heartbeat_->heard();
  probe_.received(header.size() + payload.size());
  const Status handled = handle(header, std::move(payload));
  if (handled) return;
  spdlog::error("message from the coordinator: {}", handled.error().message);
  send(encode_header(protocol::ErrorMessage{handled.error()}));
}

Status Worker::handle(std::span<const std::byte> header, transport::Payload payload) {
  PREGATE_ASSIGN(const MessageType type, protocol::decode_type(header));
  switch (type) {
    case MessageType::kExpertRequest:
      return accept_request(header, std::move(payload));
    case MessageType::kAssignExperts: {
      PREGATE_ASSIGN(auto assignment, protocol::decode_assign_experts(header, payload.bytes()));
      {
        std::lock_guard lock(mutex_);
        assignment_ = std::move(assignment);
      }
      queue_.wake();
      return {};
    }
    case MessageType::kHeartbeat:
      return {};
    case MessageType::kGoodbye: {
      PREGATE_ASSIGN(const auto goodbye, protocol::decode_goodbye(header));
      peers_lost_ = goodbye.peers_lost;
      stop();
      return {};
    }
    default:
      return fail(ErrorCode::kInvalidArgument, "a worker takes no message of type {}",
                  static_cast<int>(type));
  }
}

Status Worker::accept_request(std::span<const std::byte> header, transport::Payload payload) {
  PendingRequest pending;
  PREGATE_ASSIGN(pending.request, protocol::decode_expert_request(header, payload.bytes()));
  pending.from = options_.coordinator;
  pending.payload = std::move(payload);
  pending.arrived = clock_.now();
  if (queue_.try_push(std::move(pending))) return {};
  probe_.request_failed(ErrorCode::kResourceExhausted);
  protocol::ExpertReply reply;
  reply.request = pending.request.request;
  reply.status = fail(ErrorCode::kResourceExhausted, "{} requests are waiting already",
                      options_.max_queued_requests);
  send(encode_header(reply));
  return {};
}

std::optional<protocol::AssignExperts> Worker::take_assignment() {
  std::lock_guard lock(mutex_);
  return std::exchange(assignment_, std::nullopt);
}

void Worker::load(const protocol::AssignExperts& assignment) {
  const TimePoint begin = clock_.now();
  if (const Status loaded = load_experts(assignment); !loaded) {
    spdlog::error("cannot load experts: {}", loaded.error().message);
    send(encode_header(protocol::ErrorMessage{loaded.error()}));
    return;
  }
  const Duration spent = clock_.now() - begin;
  probe_.loaded(store_.num_experts(), store_.bytes(), spent);
  protocol::Ready ready;
  ready.assignment = assignment.assignment;
  ready.bytes = store_.bytes();
  ready.rows_per_second = measure_rows_per_second();
  ready.load_seconds = to_seconds(spent);
  ready.experts = static_cast<uint32_t>(store_.num_experts());
  ready.threads = static_cast<uint32_t>(options_.num_threads);
  ready.backend = backend_.name();
  spdlog::info("holds {} experts, {:.1f} MiB, loaded in {:.1f} s", ready.experts,
               static_cast<double>(ready.bytes) / (1 << 20), ready.load_seconds);
  send(encode_header(ready));
}

Status Worker::load_experts(const protocol::AssignExperts& assignment) {
  if (assignment.model_fingerprint != options_.model_fingerprint) {
    return fail(ErrorCode::kInvalidArgument,
                "the coordinator serves another checkpoint ({}: fingerprint {:016x}, here {:016x})",
                assignment.model, assignment.model_fingerprint, options_.model_fingerprint);
  }
  if (assignment.weight_format > static_cast<uint8_t>(compute::WeightFormat::kQ8)) {
    return fail(ErrorCode::kUnimplemented, "unknown weight format {}", assignment.weight_format);
  }
  TimePoint last_report = clock_.now();
  const auto report = [&](size_t loaded, size_t total, size_t bytes) {
    const TimePoint now = clock_.now();
    if (loaded < total && now - last_report < kProgressInterval) return;
    last_report = now;
    send(encode_header(protocol::LoadProgress{assignment.assignment, static_cast<uint32_t>(loaded),
                                              static_cast<uint32_t>(total), bytes}));
  };
  return store_.assign(assignment.ranges, compute::WeightFormat(assignment.weight_format), report);
}

double Worker::measure_rows_per_second() {
  constexpr size_t kRows = 16;
  constexpr auto kEnough = std::chrono::milliseconds(20);
  const compute::PackedExpert* expert = store_.any();
  if (expert == nullptr) return 0.0;
  const size_t cols = expert->hidden_size();
  const std::vector<float> rows(kRows * cols, 1.0f);
  std::vector<float> out(rows.size());
  const auto encoded =
      transport::allocate_payload(kRows * compute::encoded_row_bytes(store_.format(), cols));
  backend_.encode({rows.data(), kRows, cols}, store_.format(), encoded.get());
  std::vector<uint32_t> indices(kRows);
  for (uint32_t i = 0; i < kRows; ++i) indices[i] = i;
  const std::vector<float> gates(kRows, 1.0f);
  const compute::ExpertTask task{expert, indices, indices, gates};
  const TimePoint begin = clock_.now();
  size_t num_rows = 0;
  Duration spent{};
  for (; spent < kEnough; spent = clock_.now() - begin) {
    backend_.experts({store_.format(), kRows, cols, encoded.get()}, {&task, 1},
                     {out.data(), kRows, cols});
    num_rows += kRows;
  }
  return static_cast<double>(num_rows) / to_seconds(spent);
}

void Worker::send(const protocol::Bytes& header, transport::Payload payload) {
  const size_t bytes = header.size() + payload.size();
  const Status sent = transport_.send(options_.coordinator, header, std::move(payload), {});
  if (sent) {
    probe_.sent(bytes);
  } else {
    // The coordinator's own deadline covers what it now misses.
    spdlog::debug("not sent: {}", sent.error().message);
  }
}

}  // namespace pregate::worker
