// Computes with experts of which some are still on their way into memory.
#pragma once

#include <span>

#include "worker/experts/cache/expert_cache.h"

namespace pregate::worker {

/// What backend.experts(rows, tasks, out) does, to the bit, where tasks[i] is for the i-th expert
/// of `lease`, of which nothing was asked yet: what is in memory is computed first, the rest as it
/// arrives. Sets the tasks' experts meanwhile. kUnavailable, naming the expert, when one cannot be
/// loaded; then `out` means nothing.
Status compute_leased(compute::Backend& backend, ExpertCache::Lease& lease,
                      const compute::EncodedRows& rows, std::span<compute::ExpertTask> tasks,
                      compute::Matrix<float> out);

}  // namespace pregate::worker
