// In place of the kernels that are not compiled for the processor: a device of 8.0 that has no
// speed asks for none of them.
#include <cuda_runtime.h>

#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"

namespace pregate::compute::cuda {

cudaError_t launch_gemm_wgmma(const GemmArgs&, cudaStream_t) { return cudaErrorNotSupported; }

cudaError_t measure_limits(std::byte*, size_t, const DeviceInfo&, cudaStream_t, DeviceLimits&) {
  return cudaErrorNotSupported;
}

}  // namespace pregate::compute::cuda
