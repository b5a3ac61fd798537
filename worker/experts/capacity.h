// What this machine can do for a model, measured with one of its experts.
#pragma once

#include "base/clock.h"
#include "worker/experts/loader.h"

namespace pregate::worker {

struct CapacityOptions {
  ExpertKey sample;           ///< Loaded for the measurement only.
  size_t num_threads = 1;     ///< Of the back end.
  uint64_t memory_bytes = 0;  ///< For experts.
};

/// Takes a few tens of milliseconds, and the time to load one expert. Uses the back end: call it
/// before there is a worker.
Result<protocol::Capacity> measure_capacity(const ReadExpert& read, compute::Backend& backend,
                                            const CapacityOptions& options, const Clock& clock);

}  // namespace pregate::worker
