// The device of the CUDA module (compute/cuda/runtime_device.h) with its kernels, on the processor:
// their own code, compiled with headers that stand in for CUDA's (include/) and run thread by
// thread (block.h). With it, what is wrong with them shows where there is no device, but for speed
// and what comes of kernels that overlap: here they run one after the other.
#pragma once

#include <memory>

#include "base/result.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

/// A device of compute capability 8.0 or, for `major` 9, 9.0. Error kUnimplemented: there is none
/// in this build.
Result<std::unique_ptr<Device>> open_emulated_device(int major);

}  // namespace pregate::compute::cuda
