// How an engine reaches the routed experts, wherever they are.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "compute/top_k.h"
#include "compute/types.h"
#include "router/lookahead/lookahead.h"

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

/// A row that was not computed, and an expert of it that nobody holds now.
struct HomelessRow {
  uint32_t row = 0;
  ExpertId expert;
};

/// Experts that nobody holds; at least one.
struct MissingExperts {
  LayerIdx layer;
  std::vector<ExpertId> experts;
};

/// Rows lie in row memory of the engine's back end (compute/backend.h), there and back.
///
/// Used by one engine thread. dispatch() starts the work and returns, combine() waits for it, so
/// that what the caller does in between (the shared expert) overlaps. Each ticket is combined
/// exactly once.
class ExpertClient {
 public:
  virtual ~ExpertClient() = default;
  virtual Result<DispatchTicket> dispatch(const ExpertBatch& batch) = 0;
  /// Sets out [n, h] to the sum over each row's experts of gate * expert(row), but for the rows
  /// that it returns, one entry for each of their experts that is missing: of those `out` means
  /// nothing. kUnavailable or kDeadlineExceeded, naming the worker, when it did not answer.
  virtual Result<std::vector<HomelessRow>> combine(DispatchTicket ticket,
                                                   compute::Matrix<float> out) = 0;
  /// Of a step of which this does its part unattended (compute/unattended.h), with so many experts
  /// of a row; 0: of none.
  virtual size_t max_unattended_rows(size_t /*top_k*/) const { return 0; }
  /// Sets out [n, h] as combine() does, of rows [n, h] that were routed where they lie.
  virtual void run_unattended(LayerIdx /*layer*/, const compute::EncodedRows& /*rows*/,
                              const compute::TopK& /*chosen*/, compute::Matrix<float> /*out*/) {}
  /// What will or may be needed, and when; only ever moves data.
  virtual void expect(const router::Plan& /*plan*/, router::LayerTime /*now*/) {}

  // For those who wait for missing experts; nobody does where combine() returns no rows.

  /// Whether somebody holds all of them now.
  virtual bool has_homes(const MissingExperts&) const { return true; }
  /// What to tell who waited for them in vain: kUnavailable.
  virtual Error missing_error(const MissingExperts& missing) const {
    return {ErrorCode::kUnavailable, fmt::format("no worker holds expert {} of layer {}",
                                                 missing.experts.front(), missing.layer)};
  }
  /// `changed` is called, on any thread, when has_homes() may answer otherwise than before; it must
  /// not call back. When this returns the one before is not called any more; empty: nobody.
  virtual void watch_homes(std::function<void()> /*changed*/) {}
};

}  // namespace pregate::engine
