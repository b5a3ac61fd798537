// The experts that rows go to, by the logits of a router's gate. A warp takes a row, which is so
// short that each lane keeps its share of it in registers.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/activation.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/reduce.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kRows = kThreads / 32;  // of a block
constexpr int32_t kNothing = -0x7fffffff - 1;

/// Larger for larger numbers, equal for both zeros; that of NaN is the least but for kNothing.
__device__ __forceinline__ int32_t rank_of(float x) {
  if (x != x) return kNothing + 1;
  const int32_t bits = __float_as_int(x == 0.0f ? 0.0f : x);
  return bits < 0 ? bits ^ 0x7fffffff : bits;
}

/// The logits of a row; lane l has those of experts l, l + 32 and so on, at most kEach.
template <uint32_t kEach>
class Row {
 public:
  __device__ __forceinline__ Row(const TopKArgs& args, uint32_t row)
      : logits_(args.logits + size_t(row) * args.stride), count_(args.num_experts) {
#pragma unroll
    for (uint32_t i = 0; i < kEach; ++i) {
      ranks_[i] = expert(i) < count_ ? rank_of(logits_[expert(i)]) : kNothing;
    }
  }

  __device__ __forceinline__ float logit(uint32_t expert) const { return logits_[expert]; }

  /// The best that was not chosen, of equal ones the first: the same in all lanes.
  __device__ __forceinline__ uint32_t choose() {
    int32_t own = kNothing;
#pragma unroll
    for (uint32_t i = 0; i < kEach; ++i) own = max(own, ranks_[i]);
    const int32_t best = __reduce_max_sync(0xffffffffu, own);
    int32_t first = kNothing;
#pragma unroll
    for (uint32_t i = 0; i < kEach; ++i) {
      if (ranks_[i] == best) first = max(first, -int32_t(expert(i)));
    }
    const auto chosen = uint32_t(-__reduce_max_sync(0xffffffffu, first));
#pragma unroll
    for (uint32_t i = 0; i < kEach; ++i) {
      if (expert(i) == chosen) ranks_[i] = kNothing;
    }
    return chosen;
  }

  /// Of exp(logit - largest).
  __device__ __forceinline__ float total(float largest) const {
    float sum = 0.0f;
    for (uint32_t e = threadIdx.x % 32; e < count_; e += 32) {
      sum += exponential(logits_[e] - largest);
    }
    return sum_of_warp(sum);
  }

 private:
  static __device__ __forceinline__ uint32_t expert(uint32_t i) {
    return threadIdx.x % 32 + 32 * i;
  }

  const float* const logits_;
  const uint32_t count_;
  int32_t ranks_[kEach];
};

struct Chosen {
  uint32_t best;  ///< The first one.
  uint32_t own;   ///< Lane i has the i-th.
};

/// At most as many as there are lanes, so that gates need not wait for one another.
template <uint32_t kEach>
__device__ __forceinline__ Chosen choose(Row<kEach>& row, uint32_t count) {
  Chosen chosen{};
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t expert = row.choose();
    if (i == 0) chosen.best = expert;
    if (i == threadIdx.x % 32) chosen.own = expert;
  }
  return chosen;
}

template <uint32_t kEach>
__global__ __launch_bounds__(kThreads) void choose_top_k(const __grid_constant__ TopKArgs args) {
  let_next_kernel_start();
  wait_for_kernels_before();
  const uint32_t index = blockIdx.x * kRows + threadIdx.x / 32;
  if (index >= args.num_rows) return;
  Row<kEach> row(args, index);
  uint32_t* const ids = args.ids + size_t(index) * args.k;
  float* const gates = args.gates + size_t(index) * args.k;
  const uint32_t lane = threadIdx.x % 32;
  float largest = 0.0f, total = 1.0f, chosen_total = 0.0f;
  for (uint32_t first = 0; first < args.k; first += 32) {
    const uint32_t count = min(args.k - first, 32u);
    const Chosen chosen = choose(row, count);
    if (first == 0) {
      largest = row.logit(chosen.best);
      total = row.total(largest);
    }
    const bool has_gate = lane < count;
    const float gate = has_gate ? exponential(row.logit(chosen.own) - largest) / total : 0.0f;
    chosen_total += sum_of_warp(gate);
    if (!has_gate) continue;
    ids[first + lane] = chosen.own;
    gates[first + lane] = gate;
  }
  if (!args.normalize) return;
  for (uint32_t i = lane; i < args.k; i += 32) gates[i] /= chosen_total;
}

template <uint32_t kEach>
cudaError_t launch(const TopKArgs& args, bool overlap, cudaStream_t stream) {
  const dim3 grid(uint32_t(divide_up(args.num_rows, kRows)));
  return launch_kernel<choose_top_k<kEach>>({grid, kThreads, 0, stream, overlap}, args);
}

}  // namespace

cudaError_t launch_choose_top_k(const TopKArgs& args, const DeviceInfo& device,
                                cudaStream_t stream) {
  const bool overlap = can_overlap(device);
  if (args.num_experts <= 64) return launch<2>(args, overlap, stream);
  if (args.num_experts <= 256) return launch<8>(args, overlap, stream);
  return launch<kMaxTopKExperts / 32>(args, overlap, stream);
}

}  // namespace pregate::compute::cuda
