#include "worker/serving/request_queue.h"

#include <algorithm>
#include <chrono>

namespace pregate::worker {
namespace {

/// A prefill chunk is already as large as pays; merging beyond only adds latency.
constexpr size_t kMaxBatchRows = 4096;

bool can_share_call(const protocol::ExpertRequest& a, const protocol::ExpertRequest& b) {
  return a.layer == b.layer && a.row_format == b.row_format && a.cols == b.cols &&
         a.row_bytes == b.row_bytes;
}

}  // namespace

TimePoint PendingRequest::deadline() const {
  // A hostile budget must not overflow the clock.
  constexpr uint64_t kDayUs = 86'400'000'000;
  return arrived + std::chrono::microseconds(std::min(request.budget_us, kDayUs));
}

bool RequestQueue::try_push(PendingRequest&& request) {
  {
    std::lock_guard lock(mutex_);
    if (requests_.size() >= capacity_) return false;
    requests_.push_back(std::move(request));
  }
  changed_.notify_one();
  return true;
}

std::vector<PendingRequest> RequestQueue::pop_batch(Duration timeout) {
  std::unique_lock lock(mutex_);
  // A wait of no time would still sleep until a timer ends, some 60 us.
  if (timeout > Duration::zero()) {
    changed_.wait_for(lock, timeout, [this] { return is_ready_locked(); });
  }
  std::vector<PendingRequest> batch;
  if (std::exchange(woken_, false) || requests_.empty()) return batch;
  size_t num_rows = 0;
  std::deque<PendingRequest> others;
  for (PendingRequest& pending : requests_) {
    const protocol::ExpertRequest& request = pending.request;
    const bool joins = batch.empty() || (can_share_call(batch.front().request, request) &&
                                         num_rows + request.num_rows <= kMaxBatchRows);
    if (joins) {
      num_rows += request.num_rows;
      batch.push_back(std::move(pending));
    } else {
      others.push_back(std::move(pending));
    }
  }
  requests_ = std::move(others);
  return batch;
}

bool RequestQueue::is_ready() const {
  std::lock_guard lock(mutex_);
  return is_ready_locked();
}

void RequestQueue::wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

void RequestQueue::clear() {
  std::lock_guard lock(mutex_);
  requests_.clear();
}

size_t RequestQueue::size() const {
  std::lock_guard lock(mutex_);
  return requests_.size();
}

}  // namespace pregate::worker
