// A plan on its way to a device.
#pragma once

#include <span>

#include "compute/cuda/device.h"
#include "compute/cuda/outbox.h"
#include "compute/cuda/plan.h"
#include "compute/cuda/row_space.h"

namespace pregate::compute::cuda {

/// What the kernels are called with, as far as a plan says it: format, tables and counts. Where
/// rows go from one kernel to the next, and of what width they are, is for the caller to add.
struct SentPlan {
  GatherArgs gather;
  GemmArgs gate_up, down;
  CombineArgs combine;
  Outbox::Piece piece;    ///< What was sent: encoded rows, and behind them the tables.
  size_t size_bytes = 0;  ///< Of it.
};

/// Begins to send encoded rows, unless they lie in row memory, and the tables of a plan.
Result<SentPlan> send(std::span<const std::byte> encoded, const ExpertsPlan& plan, Stream& stream,
                      Outbox& outbox, const RowSpace* row_space = nullptr);

}  // namespace pregate::compute::cuda
