// A plan on its way to a device.
#pragma once

#include <span>

#include "compute/cuda/device.h"
#include "compute/cuda/plan.h"
#include "compute/cuda/scratch.h"

namespace pregate::compute::cuda {

/// What the kernels are called with, as far as a plan says it: tables and counts. Where rows go
/// from one kernel to the next, and of what format and width they are, is for the caller to add.
struct SentPlan {
  GatherArgs gather;
  GemmArgs gate_up, down;
  CombineArgs combine;
  size_t size_bytes = 0;  ///< Of what was sent: encoded rows, and behind them the tables.
};

/// Begins to send encoded rows and the tables of a plan. All must stay as they are until the stream
/// was waited for.
Result<SentPlan> send(std::span<const std::byte> encoded, const ExpertsPlan& plan, Stream& stream,
                      PinnedScratch& pinned, DeviceScratch& to);

}  // namespace pregate::compute::cuda
