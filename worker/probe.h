// What a worker tells about itself. Metrics are bound to it where the process is put together.
#pragma once

#include <cstddef>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"

namespace pregate::worker {

/// Does nothing; override what is of interest. Called from the worker's threads, also while it
/// holds locks: thread-safe, and never back into the worker.
class Probe {
 public:
  virtual ~Probe() = default;
  /// Rows that went through one expert.
  virtual void expert_computed(LayerIdx, ExpertId, size_t /*rows*/) {}
  /// One call of the back end, which served `requests` requests.
  virtual void batch_computed(size_t /*requests*/, size_t /*rows*/, Duration /*compute*/) {}
  /// A request answered with an error.
  virtual void request_failed(ErrorCode) {}
  virtual void received(size_t /*bytes*/) {}
  virtual void sent(size_t /*bytes*/) {}
  virtual void queue_depth(size_t /*requests*/) {}
  virtual void expert_loaded(size_t /*bytes*/, Duration) {}
  virtual void load_failed() {}
  /// So many experts wait for memory that others have to leave first; 0: none any more.
  virtual void waits_for_room(size_t /*experts*/) {}
  /// What is held after something was loaded or dropped.
  virtual void holds(size_t /*experts*/, size_t /*bytes*/) {}
  /// Whether the coordinator counts this worker in.
  virtual void joined(bool) {}
  /// Joined once more, after a connection was lost.
  virtual void rejoined() {}
};

}  // namespace pregate::worker
