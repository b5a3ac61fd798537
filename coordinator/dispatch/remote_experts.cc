#include "coordinator/dispatch/remote_experts.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace pregate::coordinator {
namespace {

using engine::DispatchTicket;
using engine::ExpertBatch;
using engine::HomelessRow;
using transport::Payload;

/// What the engine's thread puts on the network itself. More takes longer than to wake the
/// transport's thread for it, and the engine has something to compute meanwhile.
constexpr size_t kMaxOwnBytes = size_t{256} << 10;

/// Another worker, or the same one later, may answer what was refused for this.
bool may_pass(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotFound:  // the worker has dropped it, or lost it with its past self
    case ErrorCode::kUnavailable:
    case ErrorCode::kDeadlineExceeded:
    case ErrorCode::kResourceExhausted:
    case ErrorCode::kCancelled:
      return true;
    default:
      return false;
  }
}

/// What concerns the experts that `worker` holds.
protocol::ExpertPlan part_of_plan(const router::Plan& plan, router::LayerTime now,
                                  const Placement& table, WorkerId worker) {
  protocol::ExpertPlan part{.now = now, .experts = {}};
  for (const router::PlannedExpert& planned : plan) {
    if (std::ranges::count(table.workers(planned.layer, planned.expert), worker) == 0) continue;
    if (planned.when < now || planned.when - now > UINT32_MAX) continue;
    if (part.experts.size() == protocol::kMaxPlannedExperts) break;
    const float likelihood = std::clamp(planned.likelihood, 0.0f, 1.0f);
    part.experts.push_back({planned.layer, planned.expert,
                            static_cast<uint32_t>(planned.when - now),
                            planned.certain ? 1.0f : likelihood, planned.certain});
  }
  return part;
}

using Shares = std::span<const Share* const>;

/// A row's results in the order of `shares`.
std::vector<Addend> addends_of(Shares shares) {
  std::vector<Addend> addends;
  for (uint32_t payload = 0; payload < shares.size(); ++payload) {
    const std::vector<uint32_t>& rows = shares[payload]->batch_rows;
    for (size_t i = 0; i < rows.size(); ++i) addends.push_back({rows[i], payload, i});
  }
  return addends;
}

/// The same where each expert's results came apart.
std::vector<Addend> addends_in_expert_order(Shares shares) {
  struct Run {
    ExpertId expert;
    uint32_t payload;
    size_t first, count;  // entries of the share's table
  };
  std::vector<Run> runs;
  for (uint32_t payload = 0; payload < shares.size(); ++payload) {
    const protocol::ExpertTable& table = shares[payload]->table;
    size_t first = 0;
    for (size_t i = 0; i < table.experts.size(); ++i) {
      runs.push_back({table.experts[i], payload, first, table.counts[i]});
      first += table.counts[i];
    }
  }
  std::ranges::sort(runs, {}, &Run::expert);
  std::vector<Addend> addends;
  for (const Run& run : runs) {
    const Share& share = *shares[run.payload];
    for (size_t entry = run.first; entry < run.first + run.count; ++entry) {
      addends.push_back({share.batch_rows[share.table.rows[entry]], run.payload, entry});
    }
  }
  return addends;
}

}  // namespace

RemoteExperts::RemoteExperts(const DispatchParts& parts, const DispatchOptions& options)
    : cluster_(parts.cluster),
      clock_(parts.clock),
      waiter_(parts.waiter),
      options_(options),
      probe_(parts.probe),
      rows_(parts.backend, parts.device_memory) {
  cluster_.add_listener(*this);
  on_table_changed();  // as of now
}

RemoteExperts::~RemoteExperts() { cluster_.remove_listener(*this); }

Result<DispatchTicket> RemoteExperts::dispatch(const ExpertBatch& batch) {
  auto call = std::make_unique<Call>();
  call->ticket = next_ticket_++;
  call->batch = batch;
  call->begin = clock_.now();
  call->table = cluster_.table();
  call->attention = true;
  // One part without a worker: attend() splits it as it would one that lost its worker.
  std::vector<Share> all = split_batch(batch, [](ExpertId) { return std::nullopt; });
  PREGATE_CHECK(all.size() <= 1);
  Call& open = *call;
  {
    std::lock_guard lock(mutex_);
    calls_.emplace(open.ticket, std::move(call));
    for (Share& share : all) {
      open.parts.push_back({.share = std::move(share), .asked_since = open.begin});
      ++open.num_awaited;
      count(open, open.parts.back());
    }
  }
  attend(open);
  return open.ticket;
}

void RemoteExperts::count(const Call& call, const Part& part) {
  const protocol::ExpertTable& table = part.share.table;
  for (size_t i = 0; i < table.experts.size(); ++i) {
    probe_.expert_tokens(call.batch.layer, table.experts[i], table.counts[i]);
    cluster_.loads().add(call.batch.layer, table.experts[i], table.counts[i]);
  }
}

Result<std::vector<HomelessRow>> RemoteExperts::combine(DispatchTicket ticket,
                                                        compute::Matrix<float> out) {
  Call& call = find(ticket);
  PREGATE_CHECK(out.rows == call.batch.rows.rows && out.cols == call.batch.rows.cols);
  Status status = wait(call);
  if (status) status = add_up(call, out);
  std::vector<HomelessRow> homeless;
  if (status) {
    homeless = homeless_rows(call);
    probe_.batch_combined(call.batch.layer, out.rows, clock_.now() - call.begin);
  } else {
    probe_.batch_failed(status.error().code);
  }
  forget(ticket);
  PREGATE_TRY(status);
  return homeless;
}

RemoteExperts::Call& RemoteExperts::find(DispatchTicket ticket) {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(ticket);
  PREGATE_CHECK(entry != calls_.end());
  return *entry->second;
}

/// After success nothing is written any more of the parts but when to act on them.
Status RemoteExperts::wait(Call& call) {
  const auto done = [&] {
    return call.num_awaited.load(std::memory_order_acquire) == 0 || call.attention;
  };
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      waiter_.wait(lock, changed_, next_action_locked(call), done);
      if (!call.status || call.num_awaited == 0) return call.status;
    }
    attend(call);
  }
}

TimePoint RemoteExperts::next_action_locked(const Call& call) const {
  TimePoint next = TimePoint::max();
  for (const Part& part : call.parts) {
    if (part.is_open()) next = std::min(next, part.act_at);
  }
  // Not for ever: some clocks cannot count so far.
  return std::min(next, clock_.now() + options_.expert_wait);
}

// What the engine's thread does about parts that nobody is computing, or not in time.

void RemoteExperts::attend(Call& call) {
  std::vector<Sending> to_send;
  {
    std::lock_guard lock(mutex_);
    call.attention = false;
    call.table = cluster_.table();
    const TimePoint now = clock_.now();
    // Parts that are added here have been seen to.
    for (size_t i = 0, count = call.parts.size(); i < count; ++i) {
      Part& part = call.parts[i];
      if (part.is_open() && part.act_at <= now) attend_locked(call, part, to_send);
    }
  }
  for (const Sending& sending : to_send) send(call, sending);
  if (!to_send.empty()) waiter_.flush();
}

void RemoteExperts::attend_locked(Call& call, Part& part, std::vector<Sending>& to_send) {
  if (!part.worker) {
    place_locked(call, part, to_send);
  } else {
    if (!part.doubt) part.doubt = ResendReason::kLate;
    late_until_[*part.worker] = clock_.now() + options_.timeout;
    if (!move_locked(call, part, to_send)) part.act_at = clock_.now() + timeout_of_locked(part);
  }
  if (part.is_open() && part.worker) check_patience_locked(call, part);
}

/// One that answers, and in time if there is such a one. In turns, so that the replicas of a busy
/// expert share its rows.
std::optional<WorkerId> RemoteExperts::choose_locked(const Call& call, ExpertId expert,
                                                     std::optional<WorkerId> except) const {
  const auto holders = call.table->workers(call.batch.layer, expert);
  std::optional<WorkerId> late;
  for (size_t i = 0; i < holders.size(); ++i) {
    const WorkerId worker = holders[(call.batch.step + i) % holders.size()];
    if (worker == except || !cluster_.answers(worker)) continue;
    if (!is_late_locked(worker)) return worker;
    late = late.value_or(worker);
  }
  return late;
}

/// Finds workers for a part that has none; what nobody holds is put off.
void RemoteExperts::place_locked(Call& call, Part& part, std::vector<Sending>& to_send) {
  const auto choose = [&](ExpertId expert) -> std::optional<WorkerId> {
    if (const auto worker = choose_locked(call, expert, /*except=*/{})) return worker;
    const auto holders = call.table->workers(call.batch.layer, expert);
    return holders.empty() ? std::nullopt : std::optional(holders.front());
  };
  std::vector<Share> shares = split_share(part.share, choose);
  if (shares.size() > 1) return replace_locked(call, part, std::move(shares), to_send);
  part.worker = shares.front().worker;
  address_locked(call, part, to_send);
}

/// Asks other workers for a part whose worker is in doubt, if there are others for all of it.
bool RemoteExperts::move_locked(Call& call, Part& part, std::vector<Sending>& to_send) {
  const auto choose_other = [&](ExpertId expert) {
    return choose_locked(call, expert, part.worker);
  };
  std::vector<Share> shares = split_share(part.share, choose_other);
  if (!shares.front().worker) return false;
  replace_locked(call, part, std::move(shares), to_send);
  return true;
}

void RemoteExperts::replace_locked(Call& call, Part& part, std::vector<Share> shares,
                                   std::vector<Sending>& to_send) {
  waiting_.erase(part.request);
  part.table.reset();
  part.replaced = true;
  if (!part.given_up) --call.num_awaited;
  call.num_awaited += shares.size();
  for (Share& share : shares) {
    const std::optional<WorkerId> worker = share.worker;
    call.parts.push_back({.share = std::move(share),
                          .asked_since = part.asked_since,
                          .worker = worker,
                          .doubt = part.doubt});
    address_locked(call, call.parts.back(), to_send);
  }
}

/// The part's worker has been chosen, or there is none.
void RemoteExperts::address_locked(Call& call, Part& part, std::vector<Sending>& to_send) {
  if (!part.worker) return put_off_locked(call, part);
  const TimePoint now = clock_.now();
  if (std::exchange(part.given_up, false)) ++call.num_awaited;
  if (const auto doubt = std::exchange(part.doubt, {})) probe_.batch_resent(*doubt);
  // Nobody else has it: it is asked all the same, and left as soon as another can answer.
  if (!cluster_.answers(*part.worker)) part.doubt = ResendReason::kQuiet;
  waiting_.erase(part.request);
  part.request = cluster_.next_request();
  part.table = call.table;
  waiting_.emplace(part.request, std::pair(&call, &part));
  part.sent = now;
  part.act_at = now + timeout_of_locked(part);
  to_send.push_back({&part, *part.worker, part.request});
}

/// Nobody holds the part's experts. It is not waited for once that has lasted for a while; a table
/// in which they are has it looked at again.
void RemoteExperts::put_off_locked(Call& call, Part& part) {
  // No longer used: it would keep copies where the missing expert may need the room.
  part.table.reset();
  const TimePoint now = clock_.now();
  TimePoint since = TimePoint::min();
  for (const ExpertId expert : part.share.table.experts) {
    const auto missing = missing_since_.try_emplace({call.batch.layer, expert}, now).first;
    since = std::max(since, missing->second);
  }
  part.act_at = since + options_.homeless_grace;
  if (now < part.act_at) return;
  part.act_at = TimePoint::max();
  if (!std::exchange(part.given_up, true)) --call.num_awaited;
}

void RemoteExperts::check_patience_locked(Call& call, const Part& part) {
  const Duration patience =
      options_.expert_wait + part.share.batch_rows.size() * options_.timeout_per_row;
  const Duration waited = clock_.now() - part.asked_since;
  if (waited < patience) return;
  end_locked(call,
             {ErrorCode::kUnavailable,
              fmt::format("{} did not answer layer {} within {:.1f} s, and no other "
                          "worker holds its experts",
                          cluster_.title_of(*part.worker), call.batch.layer, to_seconds(waited))});
}

void RemoteExperts::send(const Call& call, const Sending& sending) {
  const protocol::ExpertRequest request = make_request(call, sending);
  Payload payload = pack(call, sending);
  const protocol::Bytes header = encode_header(request);
  probe_.request_sent(sending.worker, request.num_rows, header.size() + payload.size());
  const Status sent = payload.size() > kMaxOwnBytes
                          ? cluster_.send(sending.worker, header, std::move(payload))
                          : cluster_.queue(sending.worker, header, std::move(payload));
  if (sent) return;
  std::lock_guard lock(mutex_);
  Part& part = *sending.part;
  if (!part.is_open() || part.request != sending.request) return;
  part.worker.reset();
  part.doubt = ResendReason::kRefused;
  part.act_at = clock_.now() + options_.retry_after;
}

Payload RemoteExperts::pack(const Call& call, const Sending& sending) {
  return rows_.pack(call.ticket, call.batch.rows, sending.part->share,
                    [&](size_t bytes) { return cluster_.takes_tail(sending.worker, bytes); });
}

protocol::ExpertRequest RemoteExperts::make_request(const Call& call,
                                                    const Sending& sending) const {
  using std::chrono::duration_cast;
  const ExpertBatch& batch = call.batch;
  const Share& share = sending.part->share;
  // Later an answer is of no use; until then a late one may still be the only one.
  const Duration budget = options_.expert_wait + timeout_of(*sending.part);
  protocol::ExpertRequest request;
  request.request = sending.request;
  request.step = batch.step;
  request.placement_version = call.table->version();
  request.budget_us =
      static_cast<uint64_t>(duration_cast<std::chrono::microseconds>(budget).count());
  request.layer = batch.layer;
  request.num_rows = static_cast<uint32_t>(share.batch_rows.size());
  request.cols = static_cast<uint32_t>(batch.rows.cols);
  request.row_bytes =
      static_cast<uint32_t>(compute::encoded_row_bytes(batch.rows.format, batch.rows.cols));
  request.row_format = static_cast<uint8_t>(batch.rows.format);
  request.separate = options_.reproducible;
  request.table = share.table;
  return request;
}

Duration RemoteExperts::timeout_of(const Part& part) const {
  return options_.timeout + part.share.batch_rows.size() * options_.timeout_per_row;
}

/// Whether others are asked first, if there are others.
bool RemoteExperts::is_late_locked(WorkerId worker) const {
  const auto late = late_until_.find(worker);
  return late != late_until_.end() && clock_.now() < late->second;
}

/// Of a part that its worker has been chosen for.
Duration RemoteExperts::timeout_of_locked(const Part& part) const {
  const Duration longest = timeout_of(part);
  const auto usual = reply_times_.usual(*part.worker, part.share.table.rows.size());
  if (!usual) return longest;
  const auto patience = std::chrono::duration_cast<Duration>(options_.patience * *usual);
  return std::min(longest, std::max(options_.min_timeout, patience));
}

void RemoteExperts::forget(DispatchTicket ticket) {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(ticket);
  for (const Part& part : entry->second->parts) waiting_.erase(part.request);
  calls_.erase(entry);
}

// What the cluster tells.

bool RemoteExperts::on_reply(WorkerId worker, const protocol::ExpertReply& reply,
                             const Payload& payload) {
  std::lock_guard lock(mutex_);
  late_until_.erase(worker);
  const auto waiting = waiting_.find(reply.request);
  if (waiting == waiting_.end()) return false;
  const auto [call, part] = waiting->second;
  if (part->worker != worker) return false;
  waiting_.erase(waiting);
  const Duration took = clock_.now() - part->sent;
  probe_.reply_received(worker, payload.size(), std::chrono::nanoseconds(reply.compute_ns), took);
  if (reply.status) {
    reply_times_.note(worker, part->share.table.rows.size(), took);
    take_answer_locked(*call, *part, reply, payload);
  } else {
    take_refusal_locked(*call, *part, reply.status.error());
  }
  tell_locked();
  return true;
}

void RemoteExperts::take_answer_locked(Call& call, Part& part, const protocol::ExpertReply& reply,
                                       const Payload& payload) {
  const Share& share = part.share;
  const size_t cols = call.batch.rows.cols;
  const size_t expected = options_.reproducible ? share.table.rows.size() : share.batch_rows.size();
  if (reply.num_rows != expected || reply.cols != cols) {
    return end_locked(
        call, {ErrorCode::kDataLoss, fmt::format("{}: answer of {} x {}, expected {} x {}",
                                                 cluster_.title_of(*part.worker), reply.num_rows,
                                                 reply.cols, expected, cols)});
  }
  if (payload.tail() != nullptr && !payload.head().empty()) {
    return end_locked(call, {ErrorCode::kDataLoss, fmt::format("{}: an answer in two pieces",
                                                               cluster_.title_of(*part.worker))});
  }
  part.results = payload;
  part.answered = true;
  part.table.reset();
  call.num_awaited.fetch_sub(1, std::memory_order_release);
}

void RemoteExperts::take_refusal_locked(Call& call, Part& part, const Error& error) {
  if (!may_pass(error.code)) {
    return end_locked(call, in_context(error, cluster_.title_of(*part.worker)));
  }
  spdlog::debug("{} refused rows of layer {}: {}", cluster_.title_of(*part.worker),
                call.batch.layer, error.message);
  part.worker.reset();
  part.doubt = ResendReason::kRefused;
  part.act_at = clock_.now() + options_.retry_after;
  call.attention = true;
}

void RemoteExperts::end_locked(Call& call, Error error) {
  if (call.status) call.status = fail(std::move(error));
  call.attention = true;
}

/// combine() looks at its call again.
void RemoteExperts::tell_locked() {
  changed_.notify_all();
  waiter_.interrupt();
}

void RemoteExperts::on_lost(WorkerId worker, const Error&) { doubt(worker, ResendReason::kLost); }

void RemoteExperts::on_quiet(WorkerId worker) { doubt(worker, ResendReason::kQuiet); }

/// Has combine() ask others for what this worker was sent.
void RemoteExperts::doubt(WorkerId worker, ResendReason reason) {
  std::lock_guard lock(mutex_);
  for (const auto& [ticket, call] : calls_) {
    for (Part& part : call->parts) {
      if (!part.is_open() || part.worker != worker) continue;
      if (reason == ResendReason::kLost) {
        waiting_.erase(part.request);
        part.worker.reset();
      }
      part.doubt = reason;
      part.act_at = clock_.now();
      call->attention = true;
    }
  }
  tell_locked();
}

void RemoteExperts::on_table_changed() {
  std::lock_guard lock(mutex_);
  note_missing_locked();
  if (homes_changed_) homes_changed_();
  for (const auto& [ticket, call] : calls_) {
    for (Part& part : call->parts) {
      if (!part.is_open() || (part.worker && !part.doubt)) continue;
      part.act_at = clock_.now();
      call->attention = true;
    }
  }
  tell_locked();
}

void RemoteExperts::note_missing_locked() {
  const ExpertSet missing = missing_experts(cluster_.shape(), *cluster_.table());
  std::erase_if(missing_since_, [&](const auto& entry) { return !missing.contains(entry.first); });
  const TimePoint now = clock_.now();
  for (const ExpertKey& expert : missing) missing_since_.try_emplace(expert, now);
}

// For those who wait for missing experts.

void RemoteExperts::expect(const router::Plan& plan, router::LayerTime now) {
  if (plan.empty()) return;
  const std::vector<WorkerId> readers = cluster_.plan_readers();
  if (readers.empty()) return;
  const auto table = cluster_.table();
  for (const WorkerId worker : readers) {
    const protocol::ExpertPlan part = part_of_plan(plan, now, *table, worker);
    if (part.experts.empty()) continue;
    const protocol::Bytes payload = encode_payload(part);
    // It may be lost: then the worker loads on demand.
    (void)cluster_.send(worker, encode_header(part), transport::Payload::copy_of(payload));
  }
}

bool RemoteExperts::has_homes(const engine::MissingExperts& missing) const {
  const auto table = cluster_.table();
  return std::ranges::none_of(missing.experts, [&](ExpertId expert) {
    return table->workers(missing.layer, expert).empty();
  });
}

Error RemoteExperts::missing_error(const engine::MissingExperts& missing) const {
  Error error = ExpertClient::missing_error(missing);
  if (const Status health = cluster_.health(); !health)
    error.message += ": " + health.error().message;
  return error;
}

void RemoteExperts::watch_homes(std::function<void()> changed) {
  std::lock_guard lock(mutex_);
  homes_changed_ = std::move(changed);
}

std::vector<HomelessRow> RemoteExperts::homeless_rows(const Call& call) const {
  std::vector<HomelessRow> homeless;
  for (const Part& part : call.parts) {
    if (!part.given_up || !part.is_open()) continue;
    const protocol::ExpertTable& table = part.share.table;
    size_t entry = 0;
    for (size_t i = 0; i < table.experts.size(); ++i) {
      for (const size_t end = entry + table.counts[i]; entry < end; ++entry) {
        homeless.push_back({part.share.batch_rows[table.rows[entry]], table.experts[i]});
      }
    }
  }
  return homeless;
}

// Adding up.

Status RemoteExperts::add_up(const Call& call, compute::Matrix<float> out) {
  std::vector<Payload> payloads;
  std::vector<const Share*> shares;
  for (const Part& part : call.parts) {
    if (!part.answered) continue;
    payloads.push_back(part.results);
    shares.push_back(&part.share);
  }
  return rows_.add_up(
      payloads, options_.reproducible ? addends_in_expert_order(shares) : addends_of(shares), out);
}

}  // namespace pregate::coordinator
