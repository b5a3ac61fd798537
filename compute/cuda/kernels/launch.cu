// Which kernel multiplies: by format and device.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"

namespace pregate::compute::cuda {

cudaError_t launch_gemm(const GemmArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  const bool overlap = can_overlap(device);
  if (args.format == WeightFormat::kF32) return launch_gemm_f32(args, overlap, stream);
  // Code for sm_90a runs on 9.0 only, not on what came after it.
  if (args.format == WeightFormat::kBf16 && device.major == 9 && !args.portable) {
    return launch_gemm_wgmma(args, stream);
  }
  return launch_gemm_mma(args, overlap, stream);
}

}  // namespace pregate::compute::cuda
