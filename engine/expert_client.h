// How an engine reaches the routed experts, wherever they are.
#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"
#include "base/result.h"
#include "compute/types.h"

namespace pregate::engine {

/// The rows of one MoE layer in one step and what the router decided for them.
struct ExpertBatch {
  uint64_t step = 0;  ///< Counts the engine's steps.
  LayerIdx layer;
  compute::EncodedRows rows;  ///< [n, h], after the norm; unchanged until combine() returns.
  size_t top_k = 0;
  std::span<const ExpertId> expert_ids;  ///< [n * top_k]
  std::span<const float> gates;          ///< [n * top_k]
};

/// Names a dispatch until it is combined. At most a few are open at a time.
using DispatchTicket = uint64_t;

/// Used by one engine thread. dispatch() starts the work and returns, combine() waits for it, so
/// that what the caller does in between (the shared expert) overlaps. Each ticket is combined
/// exactly once.
class ExpertClient {
 public:
  virtual ~ExpertClient() = default;
  virtual Result<DispatchTicket> dispatch(const ExpertBatch& batch) = 0;
  /// Sets out [n, h] to the sum over each row's experts of gate * expert(row). kUnavailable or
  /// kDeadlineExceeded, naming the worker, when it did not answer.
  virtual Status combine(DispatchTicket ticket, compute::Matrix<float> out) = 0;
};

}  // namespace pregate::engine
