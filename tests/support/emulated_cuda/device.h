// The device of the CUDA module (compute/cuda/runtime_device.h) with its kernels, on the processor:
// their own code, compiled with headers that stand in for CUDA's (include/) and run thread by
// thread (block.h). With it, all that can be wrong with them but speed shows where there is no
// device.
#pragma once

#include <memory>

#include "base/result.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

/// Error kUnimplemented: not in this build.
Result<std::unique_ptr<Device>> open_emulated_device();

}  // namespace pregate::compute::cuda
