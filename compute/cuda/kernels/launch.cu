// Which kernel multiplies: by format and device.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"

namespace pregate::compute::cuda {

cudaError_t launch_gemm(const GemmArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  const bool overlap = can_overlap(device);
  if (args.format == WeightFormat::kF32) return launch_gemm_f32(args, overlap, stream);
  if (args.format == WeightFormat::kBf16 && is_hopper(device) && !args.portable) {
    return launch_gemm_wgmma(args, stream);
  }
  return launch_gemm_mma(args, overlap, stream);
}

}  // namespace pregate::compute::cuda
