// What the .cu files in kernels/ define, for runtime_device.cc. Each launches its work on `stream`
// and returns what launching it said; what goes wrong later shows when the stream is waited for.
#pragma once

#include <cuda_runtime.h>

#include "compute/cuda/args.h"
#include "compute/cuda/attention_args.h"
#include "compute/cuda/change_args.h"
#include "compute/cuda/draw_args.h"
#include "compute/cuda/route_args.h"
#include "compute/cuda/row_args.h"

namespace pregate::compute::cuda {

cudaError_t launch_fetch(const FetchArgs& args, cudaStream_t stream);
cudaError_t launch_gather(const GatherArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_gemm(const GemmArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_encode(const EncodeArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_combine(const CombineArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_place_heads(const PlaceHeadsArgs& args, const DeviceInfo& device,
                               cudaStream_t stream);
cudaError_t launch_attention(const AttentionArgs& args, const DeviceInfo& device,
                             cudaStream_t stream);
cudaError_t launch_norm(const NormArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_encode_rows(const EncodeRowsArgs& args, const DeviceInfo& device,
                               cudaStream_t stream);
cudaError_t launch_add(const AddArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_take_rows(const TakeRowsArgs& args, const DeviceInfo& device,
                             cudaStream_t stream);
cudaError_t launch_sum_rows(const SumRowsArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_take_encoded(const TakeEncodedArgs& args, const DeviceInfo& device,
                                cudaStream_t stream);
cudaError_t launch_choose_top_k(const TopKArgs& args, const DeviceInfo& device,
                                cudaStream_t stream);
cudaError_t launch_route(const RouteArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_find_largest(const LargestArgs& args, const DeviceInfo& device,
                                cudaStream_t stream);
cudaError_t launch_draw(const DrawArgs& args, const DeviceInfo& device, cudaStream_t stream);
cudaError_t launch_change_logits(const ChangeLogitsArgs& args, const DeviceInfo& device,
                                 cudaStream_t stream);

/// Waits for it. `memory`: some gigabytes, which it overwrites.
cudaError_t measure_limits(std::byte* memory, size_t bytes, const DeviceInfo& device,
                           cudaStream_t stream, DeviceLimits& limits);

}  // namespace pregate::compute::cuda
