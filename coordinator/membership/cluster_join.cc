// The cluster's connections: who is let in, what workers say, and how they go.
#include <algorithm>

#include "base/log.h"
#include "coordinator/membership/cluster.h"

namespace pregate::coordinator {
namespace {

using protocol::MessageType;
using transport::PeerId;

/// Refusals that are logged in full; anyone can make more.
constexpr uint64_t kMaxLoggedRefusals = 100;
/// One is on its way and one may be late.
constexpr uint64_t kMaxUnheardBeats = 2;
/// Of joins, kept to tell a replay from a wrong secret.
constexpr size_t kMaxAcceptedProofs = 1024;

}  // namespace

std::string_view to_string(JoinRefusal refusal) {
  switch (refusal) {
    case JoinRefusal::kWrongSecret:
      return "wrong_secret";
    case JoinRefusal::kReplayed:
      return "replayed";
    case JoinRefusal::kOtherModel:
      return "other_model";
    case JoinRefusal::kNameTaken:
      return "name_taken";
    case JoinRefusal::kTooMany:
      return "too_many";
    case JoinRefusal::kNoAnswer:
      return "no_answer";
    case JoinRefusal::kBadMessage:
      return "bad_message";
  }
  return "unknown";
}

// Handshakes.

void Cluster::greet(PeerId peer, const transport::Hello& hello) {
  std::lock_guard lock(mutex_);
  const auto num_open = std::ranges::count_if(
      connections_, [](const auto& entry) { return !entry.second.worker.has_value(); });
  connections_[peer] = {
      .nonce = protocol::make_nonce(), .since = clock_.now(), .incarnation = hello.incarnation};
  if (static_cast<size_t>(num_open) >= options_.max_handshakes) {
    return refuse_locked(
        peer, JoinRefusal::kTooMany,
        {true,
         {ErrorCode::kResourceExhausted, fmt::format("{} others are joining just now", num_open)}});
  }
  (void)transport_.send(peer, encode_header(protocol::Challenge{connections_[peer].nonce}), {}, {});
}

void Cluster::join_locked(PeerId peer, const protocol::Join& join, News& news) {
  const Connection& connection = connections_.at(peer);
  if (auto refusal = check_join_locked(connection, join)) {
    return refuse_locked(peer, refusal->first, {false, std::move(refusal->second)});
  }
  const event::Joined joined{join.name, join.host, join.pid, join.incarnation, join.capacity};
  for (const MembershipEffect& effect : apply_locked(joined, news)) {
    if (const auto* admitted = std::get_if<effect::Admit>(&effect)) {
      admit_locked(peer, join, *admitted, news);
    } else if (const auto* refused = std::get_if<effect::Refuse>(&effect)) {
      const bool full = refused->error.code == ErrorCode::kResourceExhausted;
      refuse_locked(peer, full ? JoinRefusal::kTooMany : JoinRefusal::kNameTaken,
                    {refused->retry, refused->error});
    }
  }
}

std::optional<std::pair<JoinRefusal, Error>> Cluster::check_join_locked(
    const Connection& connection, const protocol::Join& join) const {
  const auto refuse = [](JoinRefusal why, std::string text) {
    return std::pair(why, Error{ErrorCode::kInvalidArgument, std::move(text)});
  };
  if (!protocol::equal(prove_worker(options_.secret, connection.nonce, join), join.proof)) {
    const bool is_known = std::ranges::any_of(accepted_proofs_, [&](const protocol::Proof& proof) {
      return protocol::equal(proof, join.proof);
    });
    if (is_known) {
      return refuse(JoinRefusal::kReplayed,
                    "what it says as \"" + join.name + "\" was said before, on another connection");
    }
    return refuse(JoinRefusal::kWrongSecret, "its secret is not the cluster's (--secret-file)");
  }
  if (join.incarnation != connection.incarnation || join.name.empty()) {
    return refuse(JoinRefusal::kBadMessage, "it says one thing in its hello and another in Join");
  }
  if (join.model_fingerprint != options_.model_fingerprint) {
    return refuse(JoinRefusal::kOtherModel,
                  fmt::format("it has another checkpoint: fingerprint {:016x}, expected {:016x} "
                              "({})",
                              join.model_fingerprint, options_.model_fingerprint, options_.model));
  }
  if (join.weight_format != static_cast<uint8_t>(options_.weight_format)) {
    return refuse(JoinRefusal::kOtherModel, "its --weights differ from the coordinator's");
  }
  return std::nullopt;
}

void Cluster::admit_locked(PeerId peer, const protocol::Join& join, const effect::Admit& admitted,
                           News& news) {
  const WorkerId worker = admitted.worker;
  Remote& remote = remotes_[worker];
  if (admitted.replaced) {
    // What was sent to the earlier connection is not answered on this one.
    news.lost.emplace_back(worker, Error{ErrorCode::kUnavailable, "it came back"});
    disconnect_locked(worker);
  }
  if (!admitted.same_incarnation) remote = {};
  remote.peer = peer;
  remote.connected = true;
  remote.has_reported = false;
  remote.heard_beat = 0;
  connections_.at(peer).worker = worker;
  accepted_proofs_.push_back(join.proof);
  if (accepted_proofs_.size() > kMaxAcceptedProofs) accepted_proofs_.pop_front();
  welcome_locked(peer, join);
  const Member& member = members_.at(worker);
  spdlog::info("{} {}: {:.0f} rows/s, room for {} experts, {}", member.title(),
               admitted.replaced ? "is back" : "joined", member.capacity.rows_per_second,
               room_of(member.capacity), member.capacity.backend);
  probe_.worker_changed(member);
  dirty_ = true;
}

void Cluster::welcome_locked(PeerId peer, const protocol::Join& join) {
  const Connection& connection = connections_.at(peer);
  const WorkerId worker = connection.worker.value();
  const protocol::Proof proof = prove_coordinator(options_.secret, connection.nonce, join, worker);
  (void)send_locked(worker, encode_header(protocol::Welcome{proof, worker}), {});
}

void Cluster::refuse_locked(PeerId peer, JoinRefusal why, const protocol::Refusal& refusal) {
  probe_.join_refused(why);
  if (num_refusals_logged_++ < kMaxLoggedRefusals) {
    spdlog::warn("refused peer {}: {}", peer, refusal.error.message);
  }
  (void)transport_.send(peer, encode_header(refusal), {}, {});
  // The peer hangs up when it has read why; if it does not, the handshake's time ends.
  connections_.at(peer).refusal = refusal;
}

/// It is told again, if it asks again: the Refusal may have been lost. What else it says counts for
/// nothing.
void Cluster::hear_refused_locked(PeerId peer, std::span<const std::byte> header) {
  if (protocol::decode_type(header) != MessageType::kJoin) return;
  (void)transport_.send(peer, encode_header(*connections_.at(peer).refusal), {}, {});
}

void Cluster::end_slow_handshakes_locked() {
  for (auto connection = connections_.begin(); connection != connections_.end();) {
    const bool slow = !connection->second.worker &&
                      clock_.now() - connection->second.since > options_.handshake_timeout;
    if (!slow) {
      ++connection;
      continue;
    }
    if (!connection->second.refusal) probe_.join_refused(JoinRefusal::kNoAnswer);
    transport_.disconnect(connection->first);
    connection = connections_.erase(connection);
  }
}

// Messages.

void Cluster::receive(PeerId peer, std::span<const std::byte> header,
                      const transport::Payload& payload) {
  News news;
  std::optional<std::pair<WorkerId, protocol::ExpertReply>> reply;
  {
    std::lock_guard lock(mutex_);
    const auto connection = connections_.find(peer);
    if (connection == connections_.end()) return;
    if (connection->second.refusal) return hear_refused_locked(peer, header);
    const std::optional<WorkerId> worker = connection->second.worker;
    auto handled = handle_locked(peer, header, payload, news);
    if (handled) {
      if (*handled) reply.emplace(*worker, std::move(**handled));
    } else {
      reject_locked(peer, handled.error(), news);
    }
    refresh_locked(news);
  }
  tell(news);
  if (reply) route_reply(reply->first, reply->second, payload);
}

/// A peer sent what cannot be.
void Cluster::reject_locked(PeerId peer, const Error& error, News& news) {
  const std::optional<WorkerId> worker = connections_.at(peer).worker;
  if (worker) {
    apply_locked(event::LinkDown{*worker, error.message}, news);
  } else {
    refuse_locked(peer, JoinRefusal::kBadMessage, {false, error});
    transport_.disconnect(peer);
    connections_.erase(peer);
  }
}

/// Of a message that others take, the reply; it is routed without the lock.
Result<std::optional<protocol::ExpertReply>> Cluster::handle_locked(
    PeerId peer, std::span<const std::byte> header, const transport::Payload& payload, News& news) {
  PREGATE_ASSIGN(const MessageType type, protocol::decode_type(header));
  const std::optional<WorkerId> worker = connections_.at(peer).worker;
  if (type == MessageType::kJoin) {
    PREGATE_ASSIGN(const auto join, protocol::decode_join(header));
    if (worker) {
      // The Welcome may have been lost.
      welcome_locked(peer, join);
    } else {
      join_locked(peer, join, news);
    }
    return std::nullopt;
  }
  if (type == MessageType::kGoodbye) {
    part_locked(peer, news);
    return std::nullopt;
  }
  if (!worker) return fail(ErrorCode::kInvalidArgument, "it did not answer the challenge");
  if (type != MessageType::kHeartbeat) apply_locked(event::Heard{*worker}, news);
  switch (type) {
    case MessageType::kExpertReply: {
      PREGATE_ASSIGN(auto reply, protocol::decode_expert_reply(header, payload.size()));
      return reply;
    }
    case MessageType::kHeartbeat: {
      PREGATE_ASSIGN(const auto heartbeat, protocol::decode_heartbeat(header));
      take_heartbeat_locked(*worker, heartbeat, news);
      return std::nullopt;
    }
    case MessageType::kHoldings: {
      if (payload.tail() != nullptr) return fail(ErrorCode::kDataLoss, "Holdings: with a tail");
      PREGATE_ASSIGN(const auto holdings, protocol::decode_holdings(header, payload.bytes()));
      take_holdings_locked(*worker, holdings, news);
      return std::nullopt;
    }
    case MessageType::kError: {
      PREGATE_ASSIGN(auto message, protocol::decode_error(header));
      return fail(in_context(std::move(message.error), "failed"));
    }
    default:
      return fail(ErrorCode::kInvalidArgument, "a coordinator takes no message of type {}",
                  static_cast<int>(type));
  }
}

void Cluster::take_heartbeat_locked(WorkerId worker, const protocol::Heartbeat& heartbeat,
                                    News& news) {
  Remote& remote = remotes_.at(worker);
  // One that does not hear us is as good as silent: what we send is lost.
  const auto unheard = num_beats_ - std::min(heartbeat.heard, num_beats_);
  if (unheard <= kMaxUnheardBeats) {
    apply_locked(event::Heard{worker}, news);
  }
  remote.heard_beat = std::max(remote.heard_beat, heartbeat.sequence);
  remote.seen_assignment = std::max(remote.seen_assignment, heartbeat.assignment);
  remote.queue_depth = heartbeat.queue_depth;
  probe_.heartbeat_received(worker, heartbeat.queue_depth);
  if (heartbeat.leaving) apply_locked(event::Drain{worker}, news);
}

void Cluster::take_holdings_locked(WorkerId worker, const protocol::Holdings& holdings,
                                   News& news) {
  Remote& remote = remotes_.at(worker);
  if (remote.has_reported && holdings.revision <= remote.revision) return;
  remote.has_reported = true;
  remote.revision = holdings.revision;
  if (holdings.assignment == remote.assignment) remote.ordered_out.clear();
  remote.held = to_set(holdings.ranges);
  // It may have said so before it heard that it is to drop them.
  std::erase_if(remote.held, [&](const ExpertKey& expert) {
    return remote.assignment > 0 &&
           (!remote.assigned.contains(expert) || remote.ordered_out.contains(expert));
  });
  remote.held_bytes = holdings.bytes;
  remote.seen_assignment = std::max(remote.seen_assignment, holdings.assignment);
  probe_.worker_holds(worker, remote.held.size(), remote.held_bytes);
  dirty_ = true;
  if (holdings.complete && holdings.assignment == remote.assignment && remote.assignment > 0) {
    apply_locked(event::Completed{worker}, news);
  }
}

// Ends.

void Cluster::part(PeerId peer, const Error& error) {
  News news;
  {
    std::lock_guard lock(mutex_);
    const auto connection = connections_.find(peer);
    if (connection == connections_.end()) return;
    const std::optional<WorkerId> worker = connection->second.worker;
    if (!worker && !connection->second.refusal) probe_.join_refused(JoinRefusal::kNoAnswer);
    connections_.erase(connection);
    if (worker) {
      remotes_.at(*worker).connected = false;
      apply_locked(event::LinkDown{*worker, error.message}, news);
    }
    changed_.notify_all();
    refresh_locked(news);
  }
  tell(news);
}

/// It said goodbye, and hangs up itself.
void Cluster::part_locked(PeerId peer, News& news) {
  const std::optional<WorkerId> worker = connections_.at(peer).worker;
  connections_.erase(peer);
  changed_.notify_all();
  if (!worker) return;
  remotes_.at(*worker).connected = false;
  apply_locked(event::Left{*worker}, news);
}

void Cluster::disconnect_locked(WorkerId worker) {
  Remote& remote = remotes_.at(worker);
  if (!std::exchange(remote.connected, false)) return;
  transport_.disconnect(remote.peer);
  connections_.erase(remote.peer);
  changed_.notify_all();
}

std::vector<MembershipEffect> Cluster::apply_locked(const MembershipEvent& event, News& news) {
  std::vector<MembershipEffect> effects = apply(members_, options_.membership, event, clock_.now());
  note_heard_locked();
  for (const MembershipEffect& effect : effects) {
    if (const auto* change = std::get_if<effect::Changed>(&effect)) {
      note_change_locked(*change, news);
    } else if (const auto* disconnect = std::get_if<effect::Disconnect>(&effect)) {
      disconnect_locked(disconnect->worker);
    } else if (const auto* dismiss = std::get_if<effect::Dismiss>(&effect)) {
      (void)send_locked(dismiss->worker, encode_header(protocol::Goodbye{}), {});
    } else if (const auto* forgotten = std::get_if<effect::Forgotten>(&effect)) {
      forget_locked(forgotten->worker);
    }
  }
  return effects;
}

void Cluster::forget_locked(WorkerId worker) {
  for (auto& [peer, connection] : connections_) {
    if (connection.worker != worker) continue;
    // Until it hangs up, or has had its time.
    connection.worker.reset();
    connection.since = clock_.now();
  }
  remotes_.erase(worker);
  answers_until_.at(worker.value) = 0;
  probe_.worker_forgotten(worker);
  dirty_ = true;
}

void Cluster::note_change_locked(const effect::Changed& change, News& news) {
  const Error error{ErrorCode::kUnavailable, fmt::format("{} {}", change.title, change.reason)};
  dirty_ = true;
  if (change.to == WorkerState::kDead) {
    // It may come back with all it holds, and says so then.
    remotes_.at(change.worker).held.clear();
    remotes_.at(change.worker).held_bytes = 0;
    news.lost.emplace_back(change.worker, error);
    if (!stopping_) spdlog::warn("{}", error.message);
  } else if (change.to == WorkerState::kSuspect) {
    spdlog::warn("{}", error.message);
  } else if (change.to != WorkerState::kJoining) {
    spdlog::info("{} is {}", change.title, to_string(change.to));
  }
  const auto member = members_.find(change.worker);
  if (member != members_.end()) probe_.worker_changed(member->second);
  changed_.notify_all();
}

}  // namespace pregate::coordinator
