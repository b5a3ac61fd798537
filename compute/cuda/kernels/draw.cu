// Draws the token of each row of logits: compute/draw.h, to the unit. A block has a row, reads it a
// few times, and finds by digits how unlikely a token may be.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/four.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/draw_parts.h"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 1024;
constexpr uint32_t kBins = 1u << kDigitBits, kBinsEach = kBins / kThreads;
static_assert(kBins % kThreads == 0);

/// 64-bit sums of which the parts are added with the instructions that there are for 32 bits.
struct Bins {
  uint32_t low[kBins], high[kBins];
};

/// What a block has in shared memory.
struct Shared {
  Bins bins;
  uint64_t sums[kThreads];
  uint64_t share;  // what is left of it before the digit that was found
  uint32_t digit;
};

struct Row {
  const float* logits;
  uint32_t cols;
  float largest, scale, min_p;
  uint32_t max_deficit = kMaxDeficit;

  /// Of a token that is not drawn 0.
  __device__ __forceinline__ uint64_t mass(uint32_t deficit) const {
    if (deficit > max_deficit) return 0;
    const float likely = likelihood(deficit);
    return likely >= min_p ? mass_of(likely) : 0;
  }
  __device__ __forceinline__ uint32_t deficit(float logit) const {
    return deficit_of(logit, largest, scale);
  }
};

/// Tokens as many as there are, or the mass of them.
enum class Amount { kTokens, kMass };

/// The sum of all threads' up to this one.
__device__ __forceinline__ uint64_t add_up(uint64_t own, Shared& shared) {
  for (uint32_t step = 1; step < kThreads; step *= 2) {
    shared.sums[threadIdx.x] = own;
    __syncthreads();
    if (threadIdx.x >= step) own += shared.sums[threadIdx.x - step];
    __syncthreads();
  }
  return own;
}

/// Of what add_up() gave: that of all threads.
__device__ __forceinline__ uint64_t total_of(uint64_t up_to, Shared& shared) {
  if (threadIdx.x == kThreads - 1) shared.sums[0] = up_to;
  __syncthreads();
  const uint64_t total = shared.sums[0];
  __syncthreads();
  return total;
}

__device__ __forceinline__ void add(Bins& bins, uint32_t bin, uint64_t amount) {
  const auto low = uint32_t(amount);
  uint32_t high = uint32_t(amount >> 32);
  if (atomicAdd(&bins.low[bin], low) + low < low) ++high;
  if (high > 0) atomicAdd(&bins.high[bin], high);
}

__device__ __forceinline__ uint64_t sum_of(const Bins& bins, uint32_t bin) {
  return uint64_t{bins.high[bin]} << 32 | bins.low[bin];
}

/// Into the bins: the amounts of tokens by the digit of their deficit that ends at bit `shift`, if
/// the digits before are as in `found`.
template <Amount kAmount>
__device__ __forceinline__ void sort_into_bins(const Row& row, uint32_t found, uint32_t shift,
                                               Shared& shared) {
  for (uint32_t bin = threadIdx.x; bin < kBins; bin += kThreads) {
    shared.bins.low[bin] = shared.bins.high[bin] = 0;
  }
  __syncthreads();
  for (uint32_t col = 4 * threadIdx.x; col < row.cols; col += 4 * kThreads) {
    const uint32_t count = min(4u, row.cols - col);
    const Four four = load_four(row.logits + col, row.cols - col);
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t deficit = row.deficit(four.x[i]), digits = deficit >> shift;
      if (digits >> kDigitBits != found) continue;
      const uint64_t mass = row.mass(deficit);
      if (mass > 0) add(shared.bins, digits % kBins, kAmount == Amount::kMass ? mass : 1);
    }
  }
  __syncthreads();
}

/// The deficit up to which there is the share of the amount; `share_of_total` says how much that
/// is, 1 at least.
template <Amount kAmount, typename ShareOfTotal>
__device__ __forceinline__ uint32_t deficit_up_to(const Row& row,
                                                  const ShareOfTotal& share_of_total,
                                                  Shared& shared) {
  uint32_t found = 0;
  uint64_t share = 0;  // not known yet
  for (uint32_t shift = kDigitBits * kDigits; shift > 0; shift -= kDigitBits) {
    sort_into_bins<kAmount>(row, found, shift - kDigitBits, shared);
    uint64_t own = 0;
    for (uint32_t i = 0; i < kBinsEach; ++i) {
      own += sum_of(shared.bins, kBinsEach * threadIdx.x + i);
    }
    const uint64_t up_to = add_up(own, shared);
    if (share == 0) share = share_of_total(total_of(up_to, shared));
    if (up_to - own < share && share <= up_to) {
      uint32_t bin = kBinsEach * threadIdx.x;
      share -= up_to - own;
      for (; sum_of(shared.bins, bin) < share; ++bin) share -= sum_of(shared.bins, bin);
      shared.digit = bin;
      shared.share = share;
    }
    __syncthreads();
    found = found << kDigitBits | shared.digit;
    share = shared.share;
    __syncthreads();
  }
  return found;
}

/// Calls `see` with the mass of each token of the thread's, in order, until it says that it is
/// enough.
template <typename See>
__device__ __forceinline__ void see_own(const Row& row, const See& see) {
  const auto width = uint32_t(round_up(divide_up(row.cols, kThreads), 4));
  const uint32_t first = min(threadIdx.x * width, row.cols), end = min(first + width, row.cols);
  for (uint32_t col = first; col < end; col += 4) {
    const Four four = load_four(row.logits + col, end - col);
    for (uint32_t i = 0; i < min(4u, end - col); ++i) {
      if (!see(col + i, row.mass(row.deficit(four.x[i])))) return;
    }
  }
}

/// By the thread that has it.
__device__ __forceinline__ void draw_at(double place, const Row& row, uint32_t* token,
                                        Shared& shared) {
  uint64_t own = 0;
  see_own(row, [&](uint32_t, uint64_t mass) {
    own += mass;
    return true;
  });
  const uint64_t up_to = add_up(own, shared);
  const uint64_t unit = unit_at(place, total_of(up_to, shared));
  uint64_t before = up_to - own;
  if (unit < before || unit >= up_to) return;
  see_own(row, [&](uint32_t col, uint64_t mass) {
    before += mass;
    if (unit >= before) return true;
    *token = col;
    return false;
  });
}

__global__ __launch_bounds__(kThreads) void draw(const __grid_constant__ DrawArgs args) {
  __shared__ Shared shared;
  let_next_kernel_start();
  wait_for_kernels_before();
  const uint32_t best = largest_column(args.logits.keys + size_t(blockIdx.x) * kLargestParts);
  const Draw draw = args.draws[blockIdx.x];
  uint32_t* const token = &args.tokens[blockIdx.x];
  const float* const logits = args.logits.x + size_t(blockIdx.x) * args.logits.stride;
  const float largest = logits[best];
  // If all are NaN no other can be drawn either. Otherwise the best can, whatever is cut off.
  if (takes_largest(draw) || largest != largest) {
    if (threadIdx.x == 0) *token = best;
    return;
  }
  Row row{.logits = logits,
          .cols = args.logits.cols,
          .largest = largest,
          .scale = scale_of(draw.temperature),
          .min_p = draw.min_p};
  if (draw.top_k > 0 && draw.top_k < row.cols) {
    const auto share = [&](uint64_t total) { return total < draw.top_k ? total : draw.top_k; };
    row.max_deficit = deficit_up_to<Amount::kTokens>(row, share, shared);
  }
  if (draw.top_p < 1.0f) {
    const auto share = [&](uint64_t total) { return share_of(draw.top_p, total); };
    row.max_deficit = deficit_up_to<Amount::kMass>(row, share, shared);
  }
  draw_at(draw.place, row, token, shared);
}

}  // namespace

cudaError_t launch_draw(const DrawArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  return launch_kernel<draw>({args.logits.num_rows, kThreads, 0, stream, can_overlap(device)},
                             args);
}

}  // namespace pregate::compute::cuda
