// What dispatch tells about itself. Metrics are bound to it where the process is put together.
#pragma once

#include <cstddef>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"

namespace pregate::coordinator {

/// Why rows were sent again, to another worker.
enum class ResendReason {
  kLost,     ///< The worker is gone.
  kQuiet,    ///< It is silent for a moment.
  kLate,     ///< It took much longer than usual, or longer than --dispatch-timeout.
  kRefused,  ///< It answered that it cannot, or could not be sent to.
};

/// Does nothing; override what is of interest. Called from several threads: thread-safe.
class DispatchProbe {
 public:
  virtual ~DispatchProbe() = default;
  /// One layer's batch, from dispatch() to the end of combine().
  virtual void batch_combined(LayerIdx, size_t /*rows*/, Duration) {}
  virtual void batch_failed(ErrorCode) {}
  /// Rows of a batch that went through one expert.
  virtual void expert_tokens(LayerIdx, ExpertId, size_t /*rows*/) {}
  virtual void request_sent(WorkerId, size_t /*rows*/, size_t /*bytes*/) {}
  /// `compute`: as the worker measured it; `round_trip`: from sending.
  virtual void reply_received(WorkerId, size_t /*bytes*/, Duration /*compute*/,
                              Duration /*round_trip*/) {}
  virtual void batch_resent(ResendReason) {}
};

}  // namespace pregate::coordinator
