#include "coordinator/membership/cluster.h"

#include <algorithm>

#include <unistd.h>

#include "base/log.h"

namespace pregate::coordinator {
namespace {

using transport::PeerId;

constexpr auto kProgressInterval = std::chrono::milliseconds(200);
constexpr auto kLinger = std::chrono::seconds(1);

transport::Hello make_hello() {
  const protocol::HelloInfo info{
      protocol::Role::kCoordinator, static_cast<uint32_t>(::getpid()), {}};
  return {protocol::kProtocolVersion, seed_from_system(), protocol::encode_hello_info(info)};
}

}  // namespace

Cluster::Cluster(transport::Transport& transport, const Clock& clock, ClusterOptions options,
                 ClusterProbe& probe)
    : transport_(transport),
      clock_(clock),
      options_(std::move(options)),
      probe_(probe),
      loads_(options_.shape, options_.balancer.load_half_life),
      answers_until_(options_.membership.max_workers + 1),
      no_target_(0, options_.shape),
      table_(std::make_shared<const Placement>(0, options_.shape)),
      missing_(missing_experts(options_.shape, *table_)),
      waited_for_(missing_) {}

Cluster::~Cluster() { stop(); }

void Cluster::start() {
  started_ = true;
  last_tick_ = last_beat_ = clock_.now();
  transport_.start(make_hello(), events());
}

void Cluster::tick() {
  News news;
  {
    std::lock_guard lock(mutex_);
    const TimePoint now = clock_.now();
    if (now - last_beat_ >= options_.heartbeat_interval) beat_locked();
    apply_locked(event::Tick{.since_last = now - std::exchange(last_tick_, now)}, news);
    note_quiet_locked(news);
    end_slow_handshakes_locked();
    balance_locked();
    // A table that nobody uses any more lets workers drop what only it sent to them.
    const size_t dropped = std::erase_if(older_tables_, [](const auto& t) { return t.expired(); });
    dirty_ |= dropped > 0;
    refresh_locked(news);
  }
  tell(news);
}

void Cluster::note_quiet_locked(News& news) {
  for (auto& [worker, remote] : remotes_) {
    const bool quiet = remote.connected && !answers(worker);
    if (quiet && !remote.quiet) news.quiet.push_back(worker);
    remote.quiet = quiet;
  }
}

void Cluster::note_heard_locked() {
  for (const auto& [worker, member] : members_) {
    const bool speaks = member.is_alive() && member.state != WorkerState::kSuspect;
    const TimePoint until = member.last_heard + options_.heartbeat_interval * 3 / 2;
    answers_until_.at(worker.value) = speaks ? until.time_since_epoch().count() : 0;
  }
}

void Cluster::beat_locked() {
  last_beat_ = clock_.now();
  ++num_beats_;
  for (auto& [worker, remote] : remotes_) {
    if (!remote.connected) continue;
    const protocol::Heartbeat beat{.sequence = num_beats_,
                                   .heard = remote.heard_beat,
                                   .assignment = remote.assignment,
                                   .revision = remote.revision};
    (void)send_locked(worker, encode_header(beat), {});
    const bool unseen = remote.assignment > remote.seen_assignment;
    if (unseen && last_beat_ - remote.assigned_at > options_.resend_after) {
      send_assignment_locked(worker, remote);
    }
  }
}

void Cluster::stop() {
  if (!started_ || stopping_.exchange(true)) return;
  bool peers_lost = false;
  {
    std::unique_lock lock(mutex_);
    for (const PeerId peer : transport_.launched_peers()) {
      if (connections_.contains(peer)) continue;
      peers_lost = true;
      transport_.disconnect(peer);
    }
    if (options_.dismiss_at_stop) dismiss_all(lock, peers_lost);
    peers_lost |= !connections_.empty();
  }
  transport_.stop({.linger = kLinger, .peers_lost = peers_lost});
}

void Cluster::dismiss_all(std::unique_lock<std::mutex>& lock, bool peers_lost) {
  for (const auto& [peer, connection] : connections_) {
    (void)transport_.send(peer, encode_header(protocol::Goodbye{peers_lost}), {}, {});
  }
  changed_.wait_for(lock, options_.goodbye_timeout, [this] { return connections_.empty(); });
  for (const auto& [peer, connection] : connections_) {
    if (!connection.worker) continue;
    spdlog::warn("{} did not say goodbye", members_.at(*connection.worker).title());
  }
}

transport::Events Cluster::events() {
  transport::Events events;
  events.peer_up = [this](PeerId peer, const transport::Hello& hello) { greet(peer, hello); };
  events.peer_down = [this](PeerId peer, const Error& error) { part(peer, error); };
  events.receive = [this](PeerId peer, std::span<const std::byte> header,
                          const transport::Payload& payload) { receive(peer, header, payload); };
  return events;
}

void Cluster::tell(const News& news) {
  if (news.lost.empty() && news.quiet.empty() && !news.table_changed) return;
  std::lock_guard lock(listeners_mutex_);
  for (ClusterListener* listener : listeners_) {
    for (const auto& [worker, error] : news.lost) listener->on_lost(worker, error);
    for (const WorkerId worker : news.quiet) listener->on_quiet(worker);
    if (news.table_changed) listener->on_table_changed();
  }
}

void Cluster::route_reply(WorkerId worker, const protocol::ExpertReply& reply,
                          const transport::Payload& payload) {
  std::lock_guard lock(listeners_mutex_);
  for (ClusterListener* listener : listeners_) {
    if (listener->on_reply(worker, reply, payload)) return;
  }
  probe_.late_reply(worker);
}

void Cluster::add_listener(ClusterListener& listener) {
  std::lock_guard lock(listeners_mutex_);
  listeners_.push_back(&listener);
}

void Cluster::remove_listener(ClusterListener& listener) {
  std::lock_guard lock(listeners_mutex_);
  std::erase(listeners_, &listener);
}

// What others may ask.

Status Cluster::health() const {
  std::lock_guard lock(mutex_);
  return health_locked();
}

Status Cluster::health_locked() const {
  if (waited_for_.empty()) return {};
  std::string reasons;
  size_t num_alive = 0;
  for (const auto& [id, member] : members_) {
    num_alive += member.is_alive();
    if (member.state == WorkerState::kReady || member.state == WorkerState::kDraining) continue;
    reasons += fmt::format("; {} {}", member.title(),
                           member.reason.empty() ? to_string(member.state) : member.reason);
  }
  if (num_alive < options_.min_workers) {
    reasons = fmt::format("; {} of {} workers are here", num_alive, options_.min_workers) + reasons;
  }
  const size_t num_experts = options_.shape.layers.size() * options_.shape.num_experts;
  const size_t num_unanswered = waited_for_.size() - missing_.size();
  std::string what;
  if (!missing_.empty()) {
    what = fmt::format("{} of {} experts are held by no live worker", missing_.size(), num_experts);
  }
  if (num_unanswered > 0) {
    what += fmt::format("{}{} of {} experts are held only by workers that do not answer",
                        what.empty() ? "" : "; ", num_unanswered, num_experts);
  }
  return fail(ErrorCode::kUnavailable, "{}{}", what, reasons);
}

Status Cluster::wait_until_whole(Duration timeout,
                                 const std::function<void(const ClusterInfo&)>& progress,
                                 const std::atomic<bool>& give_up) const {
  const TimePoint deadline = clock_.now() + timeout;
  for (;;) {
    ClusterInfo info;
    bool is_whole = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kProgressInterval, [this] { return waited_for_.empty(); });
      info = info_locked();
      is_whole = waited_for_.empty();
      if (!is_whole && clock_.now() >= deadline) {
        return fail(ErrorCode::kDeadlineExceeded, "not ready within {:.0f} s: {}",
                    to_seconds(timeout), health_locked().error().message);
      }
    }
    progress(info);
    if (is_whole) return {};
    if (give_up) return fail(ErrorCode::kCancelled, "stopped before all experts were held");
  }
}

std::shared_ptr<const Placement> Cluster::table() const {
  std::lock_guard lock(mutex_);
  return table_;
}

ClusterInfo Cluster::info() const {
  std::lock_guard lock(mutex_);
  return info_locked();
}

ClusterInfo Cluster::info_locked() const {
  ClusterInfo info{.table_version = table_->version(),
                   .target_version = target_locked().version(),
                   .num_experts = options_.shape.layers.size() * options_.shape.num_experts,
                   .num_missing = missing_.size(),
                   .num_unanswered = waited_for_.size() - missing_.size()};
  for (const auto& [id, member] : members_) {
    const Remote& remote = remotes_.at(id);
    info.workers.push_back({.member = member,
                            .num_held = remote.held.size(),
                            .num_assigned = remote.assigned.size(),
                            .held_bytes = remote.held_bytes,
                            .queue_depth = remote.queue_depth});
  }
  return info;
}

std::string Cluster::title_of(WorkerId worker) const {
  std::lock_guard lock(mutex_);
  const auto member = members_.find(worker);
  return member == members_.end() ? fmt::format("worker {}", worker) : member->second.title();
}

bool Cluster::answers(WorkerId worker) const {
  return worker.value < answers_until_.size() &&
         clock_.now().time_since_epoch().count() <= answers_until_[worker.value];
}

std::vector<WorkerId> Cluster::plan_readers() const {
  std::lock_guard lock(mutex_);
  std::vector<WorkerId> readers;
  for (const auto& [worker, remote] : remotes_) {
    if (remote.connected && members_.at(worker).capacity.wants_plans) readers.push_back(worker);
  }
  return readers;
}

Status Cluster::send(WorkerId worker, const protocol::Bytes& header, transport::Payload payload) {
  PREGATE_ASSIGN(const PeerId peer, peer_of(worker));
  return transport_.send(peer, header, std::move(payload), {});
}

Status Cluster::queue(WorkerId worker, const protocol::Bytes& header, transport::Payload payload) {
  PREGATE_ASSIGN(const PeerId peer, peer_of(worker));
  return transport_.queue(peer, header, std::move(payload), {});
}

bool Cluster::takes_tail(WorkerId worker, size_t tail_bytes) const {
  const auto peer = peer_of(worker);
  return peer && transport_.takes_tail(*peer, tail_bytes);
}

Result<PeerId> Cluster::peer_of(WorkerId worker) const {
  std::lock_guard lock(mutex_);
  const auto remote = remotes_.find(worker);
  if (remote == remotes_.end() || !remote->second.connected) {
    return fail(ErrorCode::kUnavailable, "worker {} is not connected", worker);
  }
  return remote->second.peer;
}

Status Cluster::send_locked(WorkerId worker, const protocol::Bytes& header,
                            transport::Payload payload) {
  return transport_.send(remotes_.at(worker).peer, header, std::move(payload), {});
}

// Operators.

Result<WorkerId> Cluster::find(std::string_view name) const {
  std::lock_guard lock(mutex_);
  std::string known;
  for (const auto& [id, member] : members_) {
    if (member.name == name) return id;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", member.name);
  }
  return fail(ErrorCode::kNotFound, "no worker \"{}\"; there {}", name,
              known.empty() ? "is none" : "are " + known);
}

Status Cluster::drain(WorkerId worker) {
  return operate(worker, event::Drain{worker}, [](const Member& member) -> Status {
    if (member.is_alive()) return {};
    return fail(ErrorCode::kInvalidArgument, "{} is dead", member.title());
  });
}

Status Cluster::remove(WorkerId worker) {
  return operate(worker, event::Removed{worker}, [](const Member&) -> Status { return {}; });
}

Status Cluster::operate(WorkerId worker, const MembershipEvent& event,
                        const std::function<Status(const Member&)>& check) {
  News news;
  {
    std::lock_guard lock(mutex_);
    const auto member = members_.find(worker);
    if (member == members_.end()) return fail(ErrorCode::kNotFound, "no worker {}", worker);
    PREGATE_TRY(check(member->second));
    apply_locked(event, news);
    balance_locked();
    refresh_locked(news);
  }
  tell(news);
  return {};
}

}  // namespace pregate::coordinator
