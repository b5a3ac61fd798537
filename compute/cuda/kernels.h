// What the .cu files in kernels/ define, for runtime_device.cc. Each launches its work on `stream`
// and returns what launching it said; what goes wrong later shows when the stream is waited for.
#pragma once

#include <cuda_runtime.h>

#include "compute/cuda/args.h"

namespace pregate::compute::cuda {

cudaError_t launch_gather(const GatherArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_gemm(const GemmArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_encode(const EncodeArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_combine(const CombineArgs& args, const DeviceInfo& device, cudaStream_t stream);

}  // namespace pregate::compute::cuda
