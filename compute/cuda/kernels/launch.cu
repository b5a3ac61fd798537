// Which kernel multiplies: by format and device.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"

namespace pregate::compute::cuda {
namespace {

/// As kernels have them: what is of all tiles of a table is where it is of those of a map.
GemmArgs with_map(GemmArgs args) {
  if (args.tiles == nullptr) return args;
  args.num_maps = 1;
  args.maps[0].num_panels = args.max_panels;
  return args;
}

}  // namespace

cudaError_t launch_gemm(const GemmArgs& given, const DeviceInfo& device, cudaStream_t stream) {
  const GemmArgs args = with_map(given);
  const bool overlap = can_overlap(device);
  if (args.format == WeightFormat::kF32) return launch_gemm_f32(args, overlap, stream);
  if (args.format == WeightFormat::kBf16 && is_hopper(device) && !args.portable) {
    return launch_gemm_wgmma(args, device, stream);
  }
  return launch_gemm_mma(args, overlap, stream);
}

}  // namespace pregate::compute::cuda
