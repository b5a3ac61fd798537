#include "coordinator/dispatch/remote_experts.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/log.h"

namespace pregate::coordinator {
namespace {

using engine::DispatchTicket;
using engine::ExpertBatch;
using transport::Payload;

/// How often rows that no worker can compute look for one, besides whenever the table changes.
constexpr auto kHomelessPoll = std::chrono::milliseconds(100);

/// The rows of a share out of the encoded rows of the batch, behind its table.
Payload make_payload(const Share& share, const compute::EncodedRows& rows) {
  const size_t row_bytes = compute::encoded_row_bytes(rows.format, rows.cols);
  const size_t offset =
      protocol::row_data_offset(share.table.experts.size(), share.table.rows.size());
  const size_t size = offset + share.batch_rows.size() * row_bytes;
  const auto data = transport::allocate_payload(size);
  protocol::encode_table(share.table, data.get());
  std::byte* out = data.get() + offset;
  for (const uint32_t row : share.batch_rows) {
    std::memcpy(out, rows.data + row * row_bytes, row_bytes);
    out += row_bytes;
  }
  return {data, size};
}

const float* row_of(const Payload& results, size_t row, size_t cols) {
  return reinterpret_cast<const float*>(results.bytes().data()) + row * cols;
}

void add_row(const float* from, std::span<float> to) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

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

}  // namespace

RemoteExperts::RemoteExperts(Cluster& cluster, const Clock& clock, Waiter& waiter,
                             const DispatchOptions& options, DispatchProbe& probe)
    : cluster_(cluster), clock_(clock), waiter_(waiter), options_(options), probe_(probe) {
  cluster_.add_listener(*this);
}

RemoteExperts::~RemoteExperts() { cluster_.remove_listener(*this); }

Result<DispatchTicket> RemoteExperts::dispatch(const ExpertBatch& batch) {
  auto call = std::make_unique<Call>();
  call->batch = batch;
  call->begin = clock_.now();
  call->table = cluster_.table();
  call->attention = true;
  // One part without a worker: attend() splits it as it would one that lost its worker.
  std::vector<Share> all = split_batch(batch, [](ExpertId) { return std::nullopt; });
  PREGATE_CHECK(all.size() <= 1);
  const DispatchTicket ticket = next_ticket_++;
  Call& open = *call;
  {
    std::lock_guard lock(mutex_);
    calls_.emplace(ticket, std::move(call));
    for (Share& share : all) {
      open.parts.push_back({.share = std::move(share), .asked_since = open.begin});
      ++open.num_open;
      count(open, open.parts.back());
    }
  }
  attend(open);
  return ticket;
}

void RemoteExperts::count(const Call& call, const Part& part) {
  const protocol::ExpertTable& table = part.share.table;
  for (size_t i = 0; i < table.experts.size(); ++i) {
    probe_.expert_tokens(call.batch.layer, table.experts[i], table.counts[i]);
    cluster_.loads().add(call.batch.layer, table.experts[i], table.counts[i]);
  }
}

Status RemoteExperts::combine(DispatchTicket ticket, compute::Matrix<float> out) {
  Call& call = find(ticket);
  PREGATE_CHECK(out.rows == call.batch.rows.rows && out.cols == call.batch.rows.cols);
  Status status = wait(call);
  if (status) {
    for (size_t row = 0; row < out.rows; ++row) std::ranges::fill(out.row(row), 0.0f);
    options_.reproducible ? add_in_expert_order(call, out) : add_sums(call, out);
    probe_.batch_combined(call.batch.layer, out.rows, clock_.now() - call.begin);
  } else {
    probe_.batch_failed(status.error().code);
  }
  forget(ticket);
  return status;
}

RemoteExperts::Call& RemoteExperts::find(DispatchTicket ticket) {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(ticket);
  PREGATE_CHECK(entry != calls_.end());
  return *entry->second;
}

/// After success the parts are not written any more.
Status RemoteExperts::wait(Call& call) {
  const auto done = [&] {
    return call.num_open.load(std::memory_order_acquire) == 0 || call.attention;
  };
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      waiter_.wait(lock, changed_, next_action_locked(call), done);
      if (!call.status || call.num_open == 0) return call.status;
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
}

void RemoteExperts::attend_locked(Call& call, Part& part, std::vector<Sending>& to_send) {
  if (!part.worker) {
    place_locked(call, part, to_send);
  } else {
    if (!part.doubt) part.doubt = ResendReason::kLate;
    if (!move_locked(call, part, to_send)) part.act_at = clock_.now() + timeout_of(part);
  }
  if (part.is_open()) check_patience_locked(call, part);
}

/// Finds workers for a part that has none; what nobody holds stays, and waits.
void RemoteExperts::place_locked(Call& call, Part& part, std::vector<Sending>& to_send) {
  const auto choose = [&](ExpertId expert) -> std::optional<WorkerId> {
    const auto holders = call.table->workers(call.batch.layer, expert);
    // In turns, so that the replicas of a busy expert share its rows.
    for (size_t i = 0; i < holders.size(); ++i) {
      const WorkerId worker = holders[(call.batch.step + i) % holders.size()];
      if (cluster_.answers(worker)) return worker;
    }
    if (holders.empty()) return std::nullopt;
    return holders.front();
  };
  std::vector<Share> shares = split_share(part.share, choose);
  if (shares.size() > 1) return replace_locked(call, part, std::move(shares), to_send);
  part.worker = shares.front().worker;
  address_locked(call, part, to_send);
}

/// Asks other workers for a part whose worker is in doubt, if there are others for all of it.
bool RemoteExperts::move_locked(Call& call, Part& part, std::vector<Sending>& to_send) {
  const auto choose_other = [&](ExpertId expert) -> std::optional<WorkerId> {
    for (const WorkerId worker : call.table->workers(call.batch.layer, expert)) {
      if (worker != *part.worker && cluster_.answers(worker)) return worker;
    }
    return std::nullopt;
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
  call.num_open += shares.size() - 1;
  for (Share& share : shares) {
    const std::optional<WorkerId> worker = share.worker;
    call.parts.push_back({.share = std::move(share),
                          .asked_since = part.asked_since,
                          .worker = worker,
                          .doubt = part.doubt,
                          .homeless_since = part.homeless_since});
    address_locked(call, call.parts.back(), to_send);
  }
}

/// The part's worker has been chosen, or there is none.
void RemoteExperts::address_locked(Call& call, Part& part, std::vector<Sending>& to_send) {
  const TimePoint now = clock_.now();
  if (!part.worker) {
    if (!part.homeless_since) part.homeless_since = now;
    part.act_at = now + kHomelessPoll;
    return;
  }
  if (const auto doubt = std::exchange(part.doubt, {})) probe_.batch_resent(*doubt);
  if (const auto since = std::exchange(part.homeless_since, {})) probe_.rows_waited(now - *since);
  // Nobody else has it: it is asked all the same, and left as soon as another can answer.
  if (!cluster_.answers(*part.worker)) part.doubt = ResendReason::kQuiet;
  waiting_.erase(part.request);
  part.request = cluster_.next_request();
  part.table = call.table;
  waiting_.emplace(part.request, std::pair(&call, &part));
  part.sent = now;
  part.act_at = now + timeout_of(part);
  to_send.push_back({&part, *part.worker, part.request});
}

void RemoteExperts::check_patience_locked(Call& call, const Part& part) {
  const Duration patience =
      options_.expert_wait + part.share.batch_rows.size() * options_.timeout_per_row;
  const Duration waited = clock_.now() - part.asked_since;
  if (waited < patience) return;
  if (part.worker) {
    return end_locked(
        call, {ErrorCode::kUnavailable,
               fmt::format("{} did not answer layer {} within {:.1f} s, and no other "
                           "worker holds its experts",
                           cluster_.title_of(*part.worker), call.batch.layer, to_seconds(waited))});
  }
  const Status health = cluster_.health();
  end_locked(call,
             {ErrorCode::kUnavailable,
              fmt::format("no worker computed expert {} of layer {} within {:.1f} s{}{}",
                          part.share.table.experts.front(), call.batch.layer, to_seconds(waited),
                          health ? "" : ": ", health ? "" : health.error().message)});
}

void RemoteExperts::send(const Call& call, const Sending& sending) {
  const protocol::ExpertRequest request = make_request(call, sending);
  Payload payload = make_payload(sending.part->share, call.batch.rows);
  const protocol::Bytes header = encode_header(request);
  probe_.request_sent(sending.worker, request.num_rows, header.size() + payload.size());
  const Status sent = cluster_.send(sending.worker, header, std::move(payload));
  if (sent) return;
  std::lock_guard lock(mutex_);
  Part& part = *sending.part;
  if (!part.is_open() || part.request != sending.request) return;
  part.worker.reset();
  part.doubt = ResendReason::kRefused;
  part.act_at = clock_.now() + options_.retry_after;
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
  const auto waiting = waiting_.find(reply.request);
  if (waiting == waiting_.end()) return false;
  const auto [call, part] = waiting->second;
  if (part->worker != worker) return false;
  waiting_.erase(waiting);
  probe_.reply_received(worker, payload.size(), std::chrono::nanoseconds(reply.compute_ns),
                        clock_.now() - part->sent);
  if (reply.status) {
    take_answer_locked(*call, *part, reply, payload);
  } else {
    take_refusal_locked(*call, *part, reply.status.error());
  }
  changed_.notify_all();
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
  part.results = payload;
  part.answered = true;
  part.table.reset();
  call.num_open.fetch_sub(1, std::memory_order_release);
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
  changed_.notify_all();
}

void RemoteExperts::on_table_changed() {
  std::lock_guard lock(mutex_);
  for (const auto& [ticket, call] : calls_) {
    for (Part& part : call->parts) {
      if (!part.is_open() || (part.worker && !part.doubt)) continue;
      part.act_at = clock_.now();
      call->attention = true;
    }
  }
  changed_.notify_all();
}

// Adding up.

void RemoteExperts::add_sums(const Call& call, compute::Matrix<float> out) const {
  for (const Part& part : call.parts) {
    if (!part.answered) continue;
    for (size_t i = 0; i < part.share.batch_rows.size(); ++i) {
      add_row(row_of(part.results, i, out.cols), out.row(part.share.batch_rows[i]));
    }
  }
}

void RemoteExperts::add_in_expert_order(const Call& call, compute::Matrix<float> out) const {
  struct Run {
    ExpertId expert;
    const Part* part;
    size_t first, count;  // entries of the part's table
  };
  std::vector<Run> runs;
  for (const Part& part : call.parts) {
    if (!part.answered) continue;
    size_t first = 0;
    for (size_t i = 0; i < part.share.table.experts.size(); ++i) {
      const size_t count = part.share.table.counts[i];
      runs.push_back({part.share.table.experts[i], &part, first, count});
      first += count;
    }
  }
  std::ranges::sort(runs, {}, &Run::expert);
  for (const Run& run : runs) {
    for (size_t entry = run.first; entry < run.first + run.count; ++entry) {
      const uint32_t row = run.part->share.batch_rows[run.part->share.table.rows[entry]];
      add_row(row_of(run.part->results, entry, out.cols), out.row(row));
    }
  }
}

}  // namespace pregate::coordinator
