// Requests on their way from the callbacks of the transport to the thread that computes.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "protocol/messages.h"
#include "transport/transport.h"

namespace pregate::worker {

struct PendingRequest {
  uint64_t connection = 0;  ///< Over which it came; the answer is of use on this one only.
  protocol::ExpertRequest request;
  transport::Payload payload;  ///< Keeps request.row_data.
  TimePoint arrived;

  TimePoint deadline() const;
};

/// Bounded; many producers, one consumer.
class RequestQueue {
 public:
  explicit RequestQueue(size_t capacity) : capacity_(capacity) {}

  /// False, and `request` untouched, when the queue is full.
  bool try_push(PendingRequest&& request);
  /// The oldest request and all others that one call of the back end can serve with it, in order
  /// of arrival. Empty after `timeout` or wake().
  std::vector<PendingRequest> pop_batch(Duration timeout);
  /// Whether pop_batch() would not wait.
  bool is_ready() const;
  /// Ends the current or the next wait of pop_batch().
  void wake();
  /// Forgets what waits.
  void clear();
  size_t size() const;

 private:
  bool is_ready_locked() const { return woken_ || !requests_.empty(); }

  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<PendingRequest> requests_;  // guarded by mutex_
  bool woken_ = false;                   // guarded by mutex_
};

}  // namespace pregate::worker
