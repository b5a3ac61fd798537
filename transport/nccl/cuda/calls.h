// What NCCL and the CUDA runtime answer, as Status.
#pragma once

#include <atomic>

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "base/clock.h"
#include "base/result.h"

namespace pregate::transport {

/// `what`: "copying to the device".
Status check(cudaError_t error, std::string_view what);
/// `comm` may be null. Says what NCCL found, not only which kind of error it is.
Status check(ncclResult_t result, ncclComm_t comm, std::string_view what);

/// How long to wait for NCCL and the device.
struct Patience {
  TimePoint until;
  const std::atomic<bool>& cancelled;

  /// kCancelled or kDeadlineExceeded once it is at its end.
  Status check(std::string_view what) const;
};

/// Between two looks: soon at first, since most of it takes less than falling asleep and waking.
class Pause {
 public:
  void wait();

 private:
  int num_looks_ = 0;
};

}  // namespace pregate::transport
