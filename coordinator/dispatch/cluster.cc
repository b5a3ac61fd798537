#include "coordinator/dispatch/cluster.h"

#include <algorithm>

#include <unistd.h>

#include "base/log.h"
#include "base/random.h"

namespace pregate::coordinator {
namespace {

using protocol::MessageType;
using transport::PeerId;

constexpr auto kProgressInterval = std::chrono::milliseconds(200);
constexpr auto kLinger = std::chrono::seconds(1);

PeerId peer_of(WorkerId worker) { return PeerId(worker.value); }
WorkerId worker_of(PeerId peer) { return WorkerId(peer.value); }

transport::Hello make_hello() {
  const protocol::HelloInfo info{
      protocol::Role::kCoordinator, static_cast<uint32_t>(::getpid()), {}};
  return {protocol::kProtocolVersion, seed_from_system(), protocol::encode_hello_info(info)};
}

bool is_gone(WorkerState state) {
  return state == WorkerState::kLost || state == WorkerState::kLeft;
}

}  // namespace

Cluster::Cluster(transport::Transport& transport, ClusterOptions options, DispatchProbe& probe)
    : transport_(transport), options_(std::move(options)), probe_(probe) {
  for (const WorkerId worker : options_.workers) {
    WorkerInfo& info = members_[worker].info;
    info.id = worker;
    info.name = fmt::format("worker {}", worker);
  }
}

Cluster::~Cluster() { stop(); }

Status Cluster::start(std::shared_ptr<const Placement> placement, const Progress& progress,
                      const std::atomic<bool>& give_up) {
  {
    std::lock_guard lock(mutex_);
    placement_ = std::move(placement);
  }
  started_ = true;
  transport_.start(make_hello(), events());
  watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  PREGATE_TRY(wait_for(WorkerState::kJoined, options_.join_timeout, progress, give_up));
  assign();
  return wait_for(WorkerState::kReady, options_.load_timeout, progress, give_up);
}

/// Until every worker is in `state` or beyond.
Status Cluster::wait_for(WorkerState state, Duration timeout, const Progress& progress,
                         const std::atomic<bool>& give_up) {
  const TimePoint deadline = clock_.now() + timeout;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      const auto all_there = [&] { return missing_locked(state).empty(); };
      const auto settled = [&] { return all_there() || !first_failure_locked(); };
      const bool done = changed_.wait_for(lock, kProgressInterval, settled);
      PREGATE_TRY(first_failure_locked());
      if (done) break;
      if (clock_.now() >= deadline) {
        return fail(ErrorCode::kDeadlineExceeded, "{} not {} within {:.0f} s",
                    missing_locked(state), state == WorkerState::kJoined ? "started" : "loaded",
                    to_seconds(timeout));
      }
    }
    if (give_up) return fail(ErrorCode::kCancelled, "stopped before all workers were ready");
    progress(workers());
  }
  progress(workers());
  return {};
}

std::string Cluster::missing_locked(WorkerState state) const {
  std::string names;
  for (const auto& [id, member] : members_) {
    if (member.info.state >= state) continue;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", member.info.name);
  }
  return names;
}

Status Cluster::first_failure_locked() const {
  for (const auto& [id, member] : members_) {
    if (is_gone(member.info.state)) {
      return fail(ErrorCode::kUnavailable, "{} {}", member.info.name, member.info.reason);
    }
  }
  return {};
}

void Cluster::assign() {
  for (const WorkerId worker : options_.workers) {
    protocol::AssignExperts message;
    message.assignment = placement()->version();
    message.model_fingerprint = options_.model_fingerprint;
    message.weight_format = static_cast<uint8_t>(options_.weight_format);
    message.model = options_.model;
    message.ranges = placement()->assigned_to(worker);
    {
      std::lock_guard lock(mutex_);
      WorkerInfo& info = members_.at(worker).info;
      if (info.state != WorkerState::kJoined) continue;
      info.state = WorkerState::kLoading;
    }
    const auto payload = transport::Payload::copy_of(encode_payload(message));
    const Status sent = send(worker, encode_header(message), payload);
    if (!sent) lose(worker, sent.error());
  }
}

void Cluster::stop() {
  if (!started_ || stopping_.exchange(true)) return;
  bool peers_lost = false;
  for (const WorkerInfo& info : workers()) {
    const bool absent = info.state == WorkerState::kMissing || info.state == WorkerState::kLost;
    if (info.state == WorkerState::kMissing) transport_.disconnect(peer_of(info.id));
    peers_lost |= absent;
  }
  for (const WorkerId worker : options_.workers) {
    (void)send(worker, encode_header(protocol::Goodbye{peers_lost}), {});
  }
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, options_.goodbye_timeout, [this] {
      return std::all_of(members_.begin(), members_.end(), [](const auto& entry) {
        return is_gone(entry.second.info.state) || entry.second.info.state == WorkerState::kMissing;
      });
    });
  }
  watcher_ = {};
  for (const WorkerInfo& info : workers()) {
    if (info.state == WorkerState::kLeft || info.state == WorkerState::kMissing) continue;
    peers_lost = true;
    if (info.state != WorkerState::kLost) spdlog::warn("{} did not say goodbye", info.name);
  }
  transport_.stop({.linger = kLinger, .peers_lost = peers_lost});
}

transport::Events Cluster::events() {
  transport::Events events;
  events.peer_up = [this](PeerId peer, const transport::Hello& hello) {
    if (is_member(worker_of(peer))) join(worker_of(peer), hello);
  };
  events.peer_down = [this](PeerId peer, const Error& error) {
    if (is_member(worker_of(peer))) lose(worker_of(peer), error);
  };
  events.receive = [this](PeerId peer, std::span<const std::byte> header,
                          transport::Payload payload) {
    if (is_member(worker_of(peer))) receive(worker_of(peer), header, std::move(payload));
  };
  return events;
}

void Cluster::join(WorkerId worker, const transport::Hello& hello) {
  const auto info = protocol::decode_hello_info(hello.info);
  {
    std::lock_guard lock(mutex_);
    Member& member = members_.at(worker);
    if (info) member.info.name = fmt::format("worker {} ({}:{})", worker, info->host, info->pid);
    member.last_heard = clock_.now();
    // One that was lost stays so: its experts are gone with its past self.
    if (member.info.state != WorkerState::kMissing) return;
    member.info.state = WorkerState::kJoined;
    spdlog::info("{} joined", member.info.name);
  }
  probe_.worker_up(worker, true);
  changed_.notify_all();
}

void Cluster::receive(WorkerId worker, std::span<const std::byte> header,
                      transport::Payload payload) {
  {
    std::lock_guard lock(mutex_);
    members_.at(worker).last_heard = clock_.now();
  }
  const Status handled = handle(worker, header, std::move(payload));
  if (!handled) spdlog::error("{}: {}", name_of(worker), handled.error().message);
}

Status Cluster::handle(WorkerId worker, std::span<const std::byte> header,
                       transport::Payload payload) {
  PREGATE_ASSIGN(const MessageType type, protocol::decode_type(header));
  switch (type) {
    case MessageType::kExpertReply: {
      PREGATE_ASSIGN(const auto reply, protocol::decode_expert_reply(header, payload.bytes()));
      route_reply(worker, reply, payload);
      return {};
    }
    case MessageType::kHeartbeat: {
      PREGATE_ASSIGN(const auto heartbeat, protocol::decode_heartbeat(header));
      probe_.worker_queue_depth(worker, heartbeat.queue_depth);
      return {};
    }
    case MessageType::kLoadProgress: {
      PREGATE_ASSIGN(const auto progress, protocol::decode_load_progress(header));
      std::lock_guard lock(mutex_);
      members_.at(worker).info.loading = progress;
      return {};
    }
    case MessageType::kReady: {
      PREGATE_ASSIGN(const auto ready, protocol::decode_ready(header));
      std::lock_guard lock(mutex_);
      WorkerInfo& info = members_.at(worker).info;
      if (info.state != WorkerState::kLoading) return {};
      info.ready = ready;
      info.state = WorkerState::kReady;
      changed_.notify_all();
      return {};
    }
    case MessageType::kError: {
      PREGATE_ASSIGN(auto message, protocol::decode_error(header));
      lose(worker, in_context(std::move(message.error), "failed"));
      return {};
    }
    case MessageType::kGoodbye:
      leave(worker);
      return {};
    default:
      return fail(ErrorCode::kInvalidArgument, "a coordinator takes no message of type {}",
                  static_cast<int>(type));
  }
}

void Cluster::route_reply(WorkerId worker, const protocol::ExpertReply& reply,
                          const transport::Payload& payload) {
  std::lock_guard lock(listeners_mutex_);
  for (WorkerListener* listener : listeners_) {
    if (listener->on_reply(worker, reply, payload)) return;
  }
  probe_.late_reply(worker);
}

void Cluster::leave(WorkerId worker) {
  if (!stopping_) return lose(worker, {ErrorCode::kUnavailable, "has left"});
  std::lock_guard lock(mutex_);
  members_.at(worker).info.state = WorkerState::kLeft;
  changed_.notify_all();
}

void Cluster::lose(WorkerId worker, const Error& cause) {
  Error error{ErrorCode::kUnavailable, {}};
  {
    std::lock_guard lock(mutex_);
    WorkerInfo& info = members_.at(worker).info;
    if (is_gone(info.state)) return;
    info.state = WorkerState::kLost;
    info.reason = cause.message;
    error.message = fmt::format("{} {}", info.name, cause.message);
  }
  spdlog::error("{}", error.message);
  transport_.disconnect(peer_of(worker));
  probe_.worker_up(worker, false);
  changed_.notify_all();
  std::lock_guard lock(listeners_mutex_);
  for (WorkerListener* listener : listeners_) listener->on_lost(worker, error);
}

void Cluster::watch(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  uint64_t sequence = 0;
  TimePoint last_beat = clock_.now();
  bool held_up = false;
  while (!stopped.wait_for(lock, stop, options_.heartbeat_interval,
                           [&] { return stop.stop_requested(); })) {
    const protocol::Bytes header = encode_header(protocol::Heartbeat{++sequence, 0});
    for (const WorkerId worker : options_.workers) (void)send(worker, header, {});
    // If this process itself was held up, silence says nothing about the others: they get until
    // the next beat.
    const TimePoint now = clock_.now();
    const bool late = now - std::exchange(last_beat, now) > 2 * options_.heartbeat_interval;
    held_up = late && !held_up;
    if (!held_up) check_silence();
  }
}

void Cluster::check_silence() {
  std::vector<std::pair<WorkerId, Duration>> silent;
  {
    std::lock_guard lock(mutex_);
    const TimePoint now = clock_.now();
    for (const auto& [id, member] : members_) {
      const bool expected =
          member.info.state != WorkerState::kMissing && !is_gone(member.info.state);
      const Duration silence = now - member.last_heard;
      if (expected && silence > options_.max_silence) silent.emplace_back(id, silence);
    }
  }
  for (const auto& [id, silence] : silent) {
    lose(id, {ErrorCode::kUnavailable,
              fmt::format("stopped answering {:.1f} s ago", to_seconds(silence))});
  }
}

std::shared_ptr<const Placement> Cluster::placement() const {
  std::lock_guard lock(mutex_);
  return placement_;
}

std::vector<WorkerInfo> Cluster::workers() const {
  std::lock_guard lock(mutex_);
  std::vector<WorkerInfo> infos;
  for (const auto& [id, member] : members_) infos.push_back(member.info);
  return infos;
}

Status Cluster::health() const {
  std::lock_guard lock(mutex_);
  return first_failure_locked();
}

Status Cluster::check(WorkerId worker) const {
  std::lock_guard lock(mutex_);
  const auto member = members_.find(worker);
  if (member == members_.end()) {
    return fail(ErrorCode::kInternal, "there is no worker {}", worker);
  }
  const WorkerInfo& info = member->second.info;
  if (info.state == WorkerState::kReady) return {};
  return fail(ErrorCode::kUnavailable, "{} {}", info.name,
              info.reason.empty() ? "is not ready" : info.reason);
}

std::string Cluster::name_of(WorkerId worker) const {
  std::lock_guard lock(mutex_);
  return members_.at(worker).info.name;
}

Status Cluster::send(WorkerId worker, const protocol::Bytes& header, transport::Payload payload) {
  return transport_.send(peer_of(worker), header, std::move(payload), {});
}

void Cluster::add_listener(WorkerListener& listener) {
  std::lock_guard lock(listeners_mutex_);
  listeners_.push_back(&listener);
}

void Cluster::remove_listener(WorkerListener& listener) {
  std::lock_guard lock(listeners_mutex_);
  std::erase(listeners_, &listener);
}

}  // namespace pregate::coordinator
