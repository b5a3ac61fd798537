// Where a store of experts gets them from.
#pragma once

#include <functional>
#include <memory>

#include "base/ids.h"
#include "base/result.h"
#include "compute/backend.h"

namespace pregate::worker {

/// Reads one expert from the checkpoint; touches no bytes of others. Called on one loading thread:
/// it must not use the back end, or the team of threads, that computes. kUnavailable if it may well
/// work the next time.
using ReadExpert =
    std::function<Result<std::unique_ptr<compute::PackedExpert>>(LayerIdx, ExpertId)>;

}  // namespace pregate::worker
