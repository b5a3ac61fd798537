// Changes logits before tokens are drawn from them: compute/logit_changes.h, to the bit. A block
// has a row, of which it touches only what its lists name.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 1024;

/// Calls `change` with each item of the row's, and waits: the next list may name the same tokens.
template <typename Item, typename Change>
__device__ __forceinline__ void for_items(const Item* items, const ListPart& part,
                                          const Change& change) {
  for (uint32_t i = threadIdx.x; i < part.count; i += kThreads) change(items[part.first + i]);
  __syncthreads();
}

__global__ __launch_bounds__(kThreads) void change_logits(
    const __grid_constant__ ChangeLogitsArgs args) {
  let_next_kernel_start();
  wait_for_kernels_before();
  const RowChanges row = args.rows[blockIdx.x];
  float* const logits = args.x + size_t(blockIdx.x) * args.stride;
  for_items(args.biases, row.biases, [&](const TokenBias& item) {
    if (item.token < args.cols) logits[item.token] += item.bias;
  });
  for_items(args.said, row.said, [&](const SaidToken& item) {
    if (item.token >= args.cols) return;
    logits[item.token] = penalize(logits[item.token], item.num_generated, row.penalties);
  });
  for_items(args.forbidden, row.forbidden, [&](uint32_t token) {
    if (token < args.cols) logits[token] = kForbidden;
  });
}

}  // namespace

cudaError_t launch_change_logits(const ChangeLogitsArgs& args, const DeviceInfo& device,
                                 cudaStream_t stream) {
  return launch_kernel<change_logits>({args.num_rows, kThreads, 0, stream, can_overlap(device)},
                                      args);
}

}  // namespace pregate::compute::cuda
