#include "worker/serving/batch.h"

#include <cstring>

#include "worker/serving/leased_tasks.h"

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

/// The rows of all requests, one after another: in place if there is one request.
Payload join_rows(std::span<const PendingRequest* const> live) {
  const auto& first = live.front()->request;
  const auto place = reinterpret_cast<uintptr_t>(first.row_data.data());
  if (live.size() == 1 && place % alignof(float) == 0) {
    const size_t offset = live.front()->payload.size() - first.row_data.size();
    return live.front()->payload.slice(offset, first.row_data.size());
  }
  size_t size = 0;
  for (const PendingRequest* pending : live) size += pending->request.row_data.size();
  const auto joined = transport::allocate_payload(size);
  std::byte* out = joined.get();
  for (const PendingRequest* pending : live) {
    const auto rows = pending->request.row_data;
    if (!rows.empty()) std::memcpy(out, rows.data(), rows.size());
    out += rows.size();
  }
  return {joined, size};
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
  const ExpertRequest& first = live.front()->request;
  std::map<ExpertId, MergedTask> merged;
  size_t num_rows = 0;
  size_t num_results = 0;
  for (const PendingRequest* pending : live) {
    merge_table(pending->request, static_cast<uint32_t>(num_rows),
                static_cast<uint32_t>(num_results), merged);
    num_rows += pending->request.num_rows;
    num_results += pending->request.num_results();
  }
  std::vector<ExpertKey> keys;
  std::vector<compute::ExpertTask> tasks;
  for (const auto& [id, task] : merged) {
    keys.emplace_back(first.layer, id);
    tasks.push_back({experts.at(keys.back()).get(), task.rows, task.out_rows, task.gates});
    probe_.expert_computed(first.layer, id, task.rows.size());
  }
  const Payload rows = join_rows(live);
  const size_t row_bytes = first.cols * sizeof(float);
  const auto out = transport::allocate_payload(num_results * row_bytes);
  const Status status =
      run(*live.front(), {store_.format(), num_rows, first.cols, rows.bytes().data()}, keys, tasks,
          {reinterpret_cast<float*>(out.get()), num_results, first.cols});
  if (!status) {
    for (Answer* answer : answers) {
      answer->reply.status = status;
      probe_.request_failed(status.error().code);
    }
    return;
  }
  const Duration spent = clock_.now() - begin;
  probe_.batch_computed(live.size(), num_rows, spent);

  const Payload results(out, num_results * row_bytes);
  size_t offset = 0;
  for (size_t i = 0; i < live.size(); ++i) {
    const size_t count = live[i]->request.num_results();
    protocol::ExpertReply& reply = answers[i]->reply;
    reply.compute_ns = static_cast<uint64_t>(std::chrono::nanoseconds(spent).count());
    reply.num_rows = static_cast<uint32_t>(count);
    reply.cols = first.cols;
    answers[i]->payload = results.slice(offset, count * row_bytes);
    offset += count * row_bytes;
  }
}

Status BatchServer::run(const PendingRequest& first, const compute::EncodedRows& rows,
                        std::span<const ExpertKey> experts, std::span<compute::ExpertTask> tasks,
                        compute::Matrix<float> out) {
  if (cache_ == nullptr) {
    backend_.experts(rows, tasks, out);
    return {};
  }
  const auto lease =
      cache_->acquire(first.connection, first.request, {experts.begin(), experts.end()});
  return compute_leased(backend_, *lease, rows, tasks, out);
}

}  // namespace pregate::worker
