#include "coordinator/dispatch/remote_experts.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace pregate::coordinator {
namespace {

using engine::DispatchTicket;
using engine::ExpertBatch;
using transport::Payload;

/// A reply of one token is often there within the time that going to sleep and waking take.
constexpr auto kSpinTime = std::chrono::microseconds(20);

/// The rows of a share out of the encoded rows of the batch, behind its table.
Payload make_payload(const WorkerShare& share, const std::byte* encoded, size_t row_bytes) {
  const size_t offset =
      protocol::row_data_offset(share.table.experts.size(), share.table.rows.size());
  const size_t size = offset + share.batch_rows.size() * row_bytes;
  const auto data = transport::allocate_payload(size);
  protocol::encode_table(share.table, data.get());
  std::byte* out = data.get() + offset;
  for (const uint32_t row : share.batch_rows) {
    std::memcpy(out, encoded + row * row_bytes, row_bytes);
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

}  // namespace

RemoteExperts::RemoteExperts(Cluster& cluster, const DispatchOptions& options, DispatchProbe& probe)
    : cluster_(cluster), options_(options), probe_(probe) {
  cluster_.add_listener(*this);
}

RemoteExperts::~RemoteExperts() { cluster_.remove_listener(*this); }

Result<DispatchTicket> RemoteExperts::dispatch(const ExpertBatch& batch) {
  const TimePoint begin = system_clock().now();
  auto shares =
      split_batch(batch, [&](ExpertId expert) { return choose_worker(batch.layer, expert); });
  if (!shares) {
    probe_.batch_failed(shares.error().code);
    return fail(std::move(shares.error()));
  }
  auto call = std::make_unique<Call>();
  call->layer = batch.layer;
  call->num_rows = batch.rows.rows;
  call->cols = batch.rows.cols;
  call->begin = begin;
  call->deadline = begin + options_.timeout + batch.rows.rows * options_.timeout_per_row;
  call->num_waiting = shares->size();
  for (WorkerShare& share : *shares) {
    for (size_t i = 0; i < share.table.experts.size(); ++i) {
      probe_.expert_tokens(batch.layer, share.table.experts[i], share.table.counts[i]);
    }
    call->parts.push_back({std::move(share), cluster_.next_request(), begin, false, {}});
  }
  const DispatchTicket ticket = next_ticket_++;
  Call& open = *call;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < open.parts.size(); ++i) {
      waiting_.emplace(open.parts[i].request, std::pair(&open, i));
    }
    calls_.emplace(ticket, std::move(call));
  }
  if (Status sent = send_parts(open, batch); !sent) {
    forget(ticket);
    probe_.batch_failed(sent.error().code);
    return fail(std::move(sent.error()));
  }
  return ticket;
}

Result<WorkerId> RemoteExperts::choose_worker(LayerIdx layer, ExpertId expert) const {
  const auto placement = cluster_.placement();
  Status status =
      fail(ErrorCode::kInternal, "expert {} of layer {} is placed nowhere", expert, layer);
  for (const WorkerId worker : placement->workers(layer, expert)) {
    status = cluster_.check(worker);
    if (status) return worker;
  }
  return fail(std::move(status.error()));
}

Status RemoteExperts::send_parts(Call& call, const ExpertBatch& batch) {
  const size_t row_bytes = compute::encoded_row_bytes(batch.rows.format, batch.rows.cols);
  for (const Part& part : call.parts) {
    const protocol::ExpertRequest request = make_request(part, batch);
    Payload payload = make_payload(part.share, batch.rows.data, row_bytes);
    const protocol::Bytes header = encode_header(request);
    const WorkerId worker = part.share.worker;
    probe_.request_sent(worker, request.num_rows, header.size() + payload.size());
    Status sent = cluster_.send(worker, header, std::move(payload));
    if (sent) continue;
    // A worker that was lost since it was chosen is reported as that.
    PREGATE_TRY(cluster_.check(worker));
    return fail(in_context(std::move(sent.error()), cluster_.name_of(worker)));
  }
  return {};
}

protocol::ExpertRequest RemoteExperts::make_request(const Part& part,
                                                    const ExpertBatch& batch) const {
  using std::chrono::duration_cast;
  protocol::ExpertRequest request;
  request.request = part.request;
  request.step = batch.step;
  request.placement_version = cluster_.placement()->version();
  request.budget_us =
      static_cast<uint64_t>(duration_cast<std::chrono::microseconds>(
                                options_.timeout + batch.rows.rows * options_.timeout_per_row)
                                .count());
  request.layer = batch.layer;
  request.num_rows = static_cast<uint32_t>(part.share.batch_rows.size());
  request.cols = static_cast<uint32_t>(batch.rows.cols);
  request.row_bytes =
      static_cast<uint32_t>(compute::encoded_row_bytes(batch.rows.format, batch.rows.cols));
  request.row_format = static_cast<uint8_t>(batch.rows.format);
  request.separate = options_.reproducible;
  request.table = part.share.table;
  return request;
}

bool RemoteExperts::on_reply(WorkerId worker, const protocol::ExpertReply& reply,
                             const Payload& payload) {
  std::lock_guard lock(mutex_);
  const auto waiting = waiting_.find(reply.request);
  if (waiting == waiting_.end()) return false;
  auto& [call, index] = waiting->second;
  Part& part = call->parts[index];
  if (part.share.worker != worker) return false;
  const WorkerShare& share = part.share;
  const size_t expected = options_.reproducible ? share.table.rows.size() : share.batch_rows.size();
  probe_.reply_received(worker, payload.size(), std::chrono::nanoseconds(reply.compute_ns),
                        system_clock().now() - part.sent);
  if (!reply.status) {
    fail_locked(*call, in_context(reply.status.error(), cluster_.name_of(worker)));
  } else if (reply.num_rows != expected || reply.cols != call->cols) {
    fail_locked(*call, {ErrorCode::kDataLoss, fmt::format("{}: answer of {} x {}, expected {} x {}",
                                                          cluster_.name_of(worker), reply.num_rows,
                                                          reply.cols, expected, call->cols)});
  } else {
    part.results = payload;
    part.answered = true;
    call->num_waiting.fetch_sub(1, std::memory_order_release);
  }
  waiting_.erase(waiting);
  changed_.notify_all();
  return true;
}

void RemoteExperts::on_lost(WorkerId worker, const Error& error) {
  std::lock_guard lock(mutex_);
  for (const auto& [ticket, call] : calls_) {
    for (const Part& part : call->parts) {
      if (part.share.worker == worker && !part.answered) fail_locked(*call, error);
    }
  }
  changed_.notify_all();
}

void RemoteExperts::fail_locked(Call& call, const Error& error) {
  if (call.failed.exchange(true)) return;
  call.status = fail(error);
}

Status RemoteExperts::combine(DispatchTicket ticket, compute::Matrix<float> out) {
  Call* call = nullptr;
  {
    std::lock_guard lock(mutex_);
    const auto entry = calls_.find(ticket);
    PREGATE_CHECK(entry != calls_.end());
    call = entry->second.get();
  }
  PREGATE_CHECK(out.rows == call->num_rows && out.cols == call->cols);
  Status status = wait(*call);
  if (status) {
    for (size_t row = 0; row < out.rows; ++row) std::ranges::fill(out.row(row), 0.0f);
    options_.reproducible ? add_in_expert_order(*call, out) : add_sums(*call, out);
    probe_.batch_combined(call->layer, call->num_rows, system_clock().now() - call->begin);
  } else {
    probe_.batch_failed(status.error().code);
  }
  forget(ticket);
  return status;
}

/// After success the parts are not written any more.
Status RemoteExperts::wait(Call& call) {
  const auto settled = [&] {
    return call.num_waiting.load(std::memory_order_acquire) == 0 || call.failed;
  };
  const TimePoint spin_end = system_clock().now() + kSpinTime;
  while (!settled() && system_clock().now() < spin_end) {
  }
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, call.deadline, settled)) {
    std::string names;
    for (const Part& part : call.parts) {
      if (part.answered) continue;
      names += fmt::format("{}{}", names.empty() ? "" : ", ", cluster_.name_of(part.share.worker));
    }
    return fail(ErrorCode::kDeadlineExceeded, "{} did not answer layer {} within {:.1f} s", names,
                call.layer, to_seconds(call.deadline - call.begin));
  }
  return call.status;
}

void RemoteExperts::forget(DispatchTicket ticket) {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(ticket);
  for (const Part& part : entry->second->parts) waiting_.erase(part.request);
  calls_.erase(entry);
}

void RemoteExperts::add_sums(const Call& call, compute::Matrix<float> out) const {
  for (const Part& part : call.parts) {
    for (size_t i = 0; i < part.share.batch_rows.size(); ++i) {
      add_row(row_of(part.results, i, call.cols), out.row(part.share.batch_rows[i]));
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
      add_row(row_of(run.part->results, entry, call.cols), out.row(row));
    }
  }
}

}  // namespace pregate::coordinator
