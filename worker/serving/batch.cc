#include "worker/serving/batch.h"

#include <cstring>

namespace pregate::worker {
namespace {

using protocol::ExpertRequest;
using transport::Payload;

/// What several requests want of one expert.
struct MergedTask {
  std::vector<uint32_t> rows;
  std::vector<uint32_t> out_rows;
  std::vector<float> gates;
};

/// Adds a request's table, whose rows and results begin at these places in the call.
void merge_table(const ExpertRequest& request, uint32_t first_row, uint32_t first_result,
                 std::map<ExpertId, MergedTask>& tasks) {
  const protocol::ExpertTable& table = request.table;
  uint32_t entry = 0;
  for (size_t i = 0; i < table.experts.size(); ++i) {
    MergedTask& task = tasks[table.experts[i]];
    for (const uint32_t end = entry + table.counts[i]; entry < end; ++entry) {
      const uint32_t row = table.rows[entry];
      task.rows.push_back(first_row + row);
      task.out_rows.push_back(first_result + (request.separate ? entry : row));
      task.gates.push_back(table.gates[entry]);
    }
  }
}

Status copy_rows(const PendingRequest& pending, std::byte* to) {
  const std::span<const std::byte> rows = pending.request.row_data;
  if (const transport::DeviceTail* const tail = pending.payload.tail()) {
    return tail->memory->read({to, rows.size()}, rows.data());
  }
  if (!rows.empty()) std::memcpy(to, rows.data(), rows.size());
  return {};
}

/// The rows of all requests, one after another: in place, in row memory or the host's, if there is
/// one request, which keeps them.
Result<std::shared_ptr<const std::byte[]>> join_rows(std::span<const PendingRequest* const> live) {
  const std::byte* const first = live.front()->request.row_data.data();
  if (live.size() == 1 && reinterpret_cast<uintptr_t>(first) % alignof(float) == 0) {
    return std::shared_ptr<const std::byte[]>(std::shared_ptr<void>(), first);
  }
  size_t size = 0;
  for (const PendingRequest* pending : live) size += pending->request.row_data.size();
  const auto joined = transport::allocate_payload(size);
  std::byte* to = joined.get();
  for (const PendingRequest* pending : live) {
    PREGATE_TRY(copy_rows(*pending, to));
    to += pending->request.row_data.size();
  }
  return joined;
}

compute::Matrix<float> as_rows(std::byte* numbers, size_t rows, size_t cols) {
  return {reinterpret_cast<float*>(numbers), rows, cols};
}

}  // namespace

std::vector<Answer> BatchServer::serve(std::span<const PendingRequest> requests) {
  const TimePoint now = clock_.now();
  std::vector<Answer> answers(requests.size());
  std::vector<const PendingRequest*> live;
  std::vector<Answer*> live_answers;
  Experts experts;
  for (size_t i = 0; i < requests.size(); ++i) {
    const PendingRequest& pending = requests[i];
    answers[i].connection = pending.connection;
    answers[i].reply.request = pending.request.request;
    answers[i].reply.queue_ns =
        static_cast<uint64_t>(std::chrono::nanoseconds(now - pending.arrived).count());
    answers[i].reply.status = check(pending, experts);
    if (answers[i].reply.status) {
      live.push_back(&pending);
      live_answers.push_back(&answers[i]);
    } else {
      probe_.request_failed(answers[i].reply.status.error().code);
    }
  }
  if (!live.empty()) compute(live, experts, live_answers);
  return answers;
}

Status BatchServer::check(const PendingRequest& pending, Experts& experts) const {
  const ExpertRequest& request = pending.request;
  if (clock_.now() > pending.deadline()) {
    return fail(ErrorCode::kDeadlineExceeded, "request for layer {} waited longer than its {} ms",
                request.layer, request.budget_us / 1000);
  }
  if (request.row_format != static_cast<uint8_t>(store_.format()) ||
      request.row_bytes != compute::encoded_row_bytes(store_.format(), request.cols)) {
    return fail(ErrorCode::kInvalidArgument,
                "rows of format {} and {} bytes do not fit the experts", request.row_format,
                request.row_bytes);
  }
  PREGATE_TRY(find_experts(request, experts));
  if (request.num_results() * request.cols > transport::kMaxPayloadBytes / sizeof(float)) {
    return fail(ErrorCode::kInvalidArgument, "an answer of {} rows is too large",
                request.num_results());
  }
  return {};
}

Status BatchServer::find_experts(const ExpertRequest& request, Experts& experts) const {
  for (const ExpertId id : request.table.experts) {
    ExpertStore::Expert& expert = experts[{request.layer, id}];
    if (expert == nullptr) expert = store_.find({request.layer, id});
    if (expert == nullptr) {
      return fail(ErrorCode::kNotFound, "expert {} of layer {} is not held here", id,
                  request.layer);
    }
    if (expert->hidden_size() != request.cols) {
      return fail(ErrorCode::kInvalidArgument, "rows of {} columns, expected {}", request.cols,
                  expert->hidden_size());
    }
  }
  return {};
}

void BatchServer::compute(std::span<const PendingRequest* const> live, const Experts& experts,
                          std::span<Answer* const> answers) {
  const TimePoint begin = clock_.now();
  const LayerIdx layer = live.front()->request.layer;
  std::map<ExpertId, MergedTask> merged;
  Work work{.first = *live.front(), .is_alone = live.size() == 1};
  for (const PendingRequest* pending : live) {
    merge_table(pending->request, static_cast<uint32_t>(work.num_rows),
                static_cast<uint32_t>(work.num_results), merged);
    work.num_rows += pending->request.num_rows;
    work.num_results += pending->request.num_results();
  }
  for (const auto& [id, task] : merged) {
    work.experts.emplace_back(layer, id);
    work.tasks.push_back(
        {experts.at(work.experts.back()).get(), task.rows, task.out_rows, task.gates});
    probe_.expert_computed(layer, id, task.rows.size());
  }
  const auto results = join_rows(live).and_then([&](const auto& rows) {
    return run(work, {store_.format(), work.num_rows, live.front()->request.cols, rows.get()});
  });
  if (!results) {
    for (Answer* answer : answers) {
      answer->reply.status = fail(results.error());
      probe_.request_failed(results.error().code);
    }
    return;
  }
  const Duration spent = clock_.now() - begin;
  probe_.batch_computed(live.size(), work.num_rows, spent);
  deal_out(*results, spent, live, answers);
}

/// Each gets its part of the results.
void BatchServer::deal_out(const Payload& results, Duration spent,
                           std::span<const PendingRequest* const> live,
                           std::span<Answer* const> answers) {
  size_t offset = 0;
  for (size_t i = 0; i < live.size(); ++i) {
    const ExpertRequest& request = live[i]->request;
    const size_t bytes = request.num_results() * request.cols * sizeof(float);
    protocol::ExpertReply& reply = answers[i]->reply;
    reply.compute_ns = static_cast<uint64_t>(std::chrono::nanoseconds(spent).count());
    reply.num_rows = static_cast<uint32_t>(request.num_results());
    reply.cols = request.cols;
    answers[i]->payload = live.size() == 1 ? results : results.slice(offset, bytes);
    offset += bytes;
  }
}

/// Where the answer goes from: several answers are cut out of the host's memory.
Result<Payload> BatchServer::run(Work& work, const compute::EncodedRows& rows) {
  const size_t bytes = work.num_results * rows.cols * sizeof(float);
  if (const auto memory = work.is_alone ? answer_memory_(bytes) : nullptr) {
    if (const auto tail = memory->allocate(bytes)) {
      PREGATE_TRY(apply(work, rows, as_rows(tail->get(), work.num_results, rows.cols)));
      backend_.wait();
      return Payload({}, {*tail, bytes, memory});
    }
  }
  const auto data = transport::allocate_payload(bytes);
  PREGATE_TRY(run_to_host(work, rows, as_rows(data.get(), work.num_results, rows.cols)));
  return Payload(data, bytes);
}

Status BatchServer::run_to_host(Work& work, const compute::EncodedRows& rows,
                                compute::Matrix<float> out) {
  if (cache_ == nullptr || backend_.shares_row_memory()) return apply(work, rows, out);
  // What is leased is added up in row memory.
  PREGATE_ASSIGN(const auto sums, sums_.take_rows(out.rows, out.cols));
  PREGATE_TRY(apply(work, rows, sums));
  backend_.read(out.data, sums.data, out.rows * out.cols * sizeof(float));
  return {};
}

Status BatchServer::apply(Work& work, const compute::EncodedRows& rows,
                          compute::Matrix<float> out) {
  if (cache_ == nullptr) {
    backend_.experts(rows, work.tasks, out);
    return {};
  }
  const auto lease = cache_->acquire(work.first.connection, work.first.request, work.experts);
  return leased_->compute(*lease, rows, work.tasks, out);
}

}  // namespace pregate::worker
