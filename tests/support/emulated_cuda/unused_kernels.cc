// In place of the kernels that are not compiled for the processor: what has no speed is not
// measured.
#include <cuda_runtime.h>

#include "compute/cuda/kernels.h"

namespace pregate::compute::cuda {

cudaError_t measure_limits(std::byte*, size_t, const DeviceInfo&, cudaStream_t, DeviceLimits&) {
  return cudaErrorNotSupported;
}

}  // namespace pregate::compute::cuda
