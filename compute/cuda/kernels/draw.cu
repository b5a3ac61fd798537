// Draws the token of each row of logits: compute/draw.h, to the unit. Each part of a row has a
// block; what takes all of them is done by the one that comes last.
//
// A row that is cut by top_k or top_p takes two kernels. The first counts tokens, or adds up their
// masses, by the first digit of their deficit, which says in which digit the first cut is. The
// second adds up what is drawn for certain and lists the tokens of which that is not known yet.
// They are few, and the last block finds the other digits with them alone.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/reduce.cuh"
#include "compute/cuda/kernels/row_part.cuh"
#include "compute/draw_parts.h"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 512, kLanes = 32, kWarps = kThreads / kLanes;
/// That a thread asks for before it looks at any.
constexpr uint32_t kFoursAtOnce = 2;
constexpr uint32_t kBins = 1u << kDigitBits, kBinsEach = kBins / kThreads;
static_assert(kBins % kThreads == 0 && kThreads % kMaxDrawParts == 0);
static_assert(kFirstDigits <= kThreads && kLargestParts == kLanes);

/// 64-bit sums of which the parts are added with the instructions that there are for 32 bits.
struct Bins {
  uint32_t low[kBins], high[kBins];
};

/// Where a share of several amounts that follow one another ends: in which of them, and after how
/// much of it.
struct End {
  uint32_t index;
  uint64_t share;
};

/// What a block has in shared memory.
struct Shared {
  Bins bins;
  uint64_t sums[kWarps];
  End end;
  uint32_t num_listed;
  bool is_last;
};

/// Tokens as many as there are, or the mass of them.
enum class Amount { kTokens, kMass };

struct Row {
  const float* logits;
  uint32_t cols, num_parts;
  float largest, scale, min_p;
  uint32_t max_deficit = kMaxDeficit;

  /// Of a token that is not drawn 0.
  template <Amount kAmount>
  __device__ __forceinline__ uint64_t amount(uint32_t deficit) const {
    if (deficit > max_deficit) return 0;
    if (kAmount == Amount::kTokens && min_p == 0.0f) return deficit < kMaxDeficit ? 1 : 0;
    const float likely = likelihood(deficit);
    const uint64_t mass = likely >= min_p ? mass_of(likely) : 0;
    return kAmount == Amount::kMass ? mass : uint64_t{mass > 0};
  }
  __device__ __forceinline__ uint64_t mass(uint32_t deficit) const {
    return amount<Amount::kMass>(deficit);
  }
  __device__ __forceinline__ uint32_t deficit(float logit) const {
    return deficit_of(logit, largest, scale);
  }
  __device__ __forceinline__ Part part(uint32_t index) const {
    return part_of(cols, num_parts, index);
  }
};

/// Called by whole warps.
__device__ __forceinline__ Row make_row(const DrawArgs& args, const Draw& draw, uint32_t row) {
  const uint64_t key = args.logits.keys[size_t(row) * kLargestParts + threadIdx.x % kLanes];
  return {.logits = args.logits.x + size_t(row) * args.logits.stride,
          .cols = args.logits.cols,
          .num_parts = gridDim.x,
          .largest = largest_of_warp(number_of(key)),
          .scale = scale_of(draw.temperature),
          .min_p = draw.min_p};
}

/// If all are NaN no other can be drawn either. Otherwise the best can, whatever is cut off.
__device__ __forceinline__ bool takes_best(const Draw& draw, const Row& row) {
  return takes_largest(draw) || row.largest != row.largest;
}

/// Of threads, up to one and of all.
struct Sums {
  uint64_t up_to, total;
};

__device__ __forceinline__ Sums add_up(uint64_t own, Shared& shared) {
  const uint32_t warp = threadIdx.x / kLanes;
  Sums sums{own, own};
  for (uint32_t step = 1; step < kLanes; step *= 2) {
    const uint64_t other = __shfl_xor_sync(0xffffffffu, sums.total, int32_t(step));
    sums.total += other;
    if (threadIdx.x & step) sums.up_to += other;
  }
  shared.sums[warp] = sums.total;
  __syncthreads();
  sums.total = 0;
  for (uint32_t i = 0; i < kWarps; ++i) {
    if (i < warp) sums.up_to += shared.sums[i];
    sums.total += shared.sums[i];
  }
  __syncthreads();
  return sums;
}

/// Of kThreads * `count` amounts; `share_of_total` says how much the share is, 1 at least.
template <typename AmountOf, typename ShareOfTotal>
__device__ __forceinline__ End find_end(uint32_t count, const AmountOf& amount_of,
                                        const ShareOfTotal& share_of_total, Shared& shared) {
  const uint32_t first = count * threadIdx.x;
  uint64_t own = 0;
  for (uint32_t i = 0; i < count; ++i) own += amount_of(first + i);
  const Sums sums = add_up(own, shared);
  const uint64_t share = share_of_total(sums.total);
  if (sums.up_to - own < share && share <= sums.up_to) {
    End end{first, share - (sums.up_to - own)};
    for (; amount_of(end.index) < end.share; ++end.index) end.share -= amount_of(end.index);
    shared.end = end;
  }
  __syncthreads();
  return shared.end;
}

__device__ __forceinline__ void clear(Bins& bins) {
  for (uint32_t bin = threadIdx.x; bin < kBins; bin += kThreads) bins.low[bin] = bins.high[bin] = 0;
  __syncthreads();
}

__device__ __forceinline__ void add(Bins& bins, uint32_t bin, uint64_t amount) {
  if (amount == 0) return;
  const auto low = uint32_t(amount);
  uint32_t high = uint32_t(amount >> 32);
  if (atomicAdd(&bins.low[bin], low) + low < low) ++high;
  if (high > 0) atomicAdd(&bins.high[bin], high);
}

__device__ __forceinline__ uint64_t sum_of(const Bins& bins, uint32_t bin) {
  return uint64_t{bins.high[bin]} << 32 | bins.low[bin];
}

template <typename ShareOfTotal>
__device__ __forceinline__ End find_end_in_bins(const ShareOfTotal& share_of_total,
                                                Shared& shared) {
  return find_end(
      kBinsEach, [&](uint32_t bin) { return sum_of(shared.bins, bin); }, share_of_total, shared);
}

/// Of the first cut of a row that is cut.
__device__ __forceinline__ Amount first_amount(const Draw& draw, const Row& row) {
  return has_top_k(draw, row.cols) ? Amount::kTokens : Amount::kMass;
}

__device__ __forceinline__ uint64_t cut_share(Amount amount, const Draw& draw, uint64_t total) {
  if (amount == Amount::kMass) return share_of(draw.top_p, total);
  return total < draw.top_k ? total : draw.top_k;
}

/// Into the bins: the amounts of a part by first digit.
template <Amount kAmount>
__device__ __forceinline__ void sort_part(const Row& row, const Part& part, Shared& shared) {
  clear(shared.bins);
  see_part<kFoursAtOnce>(row.logits, part, threadIdx.x, kThreads, [&](uint32_t, float logit) {
    const uint32_t deficit = row.deficit(logit);
    add(shared.bins, deficit >> kFirstShift, row.amount<kAmount>(deficit));
  });
  __syncthreads();
}

/// Comes first if any row is cut.
__global__ __launch_bounds__(kThreads) void sort_logits(const __grid_constant__ DrawArgs args) {
  __shared__ Shared shared;
  let_next_kernel_start();
  wait_for_kernels_before();
  const Draw draw = args.draws[blockIdx.y];
  const Row row = make_row(args, draw, blockIdx.y);
  if (takes_best(draw, row) || !is_cut(draw, row.cols)) return;
  if (first_amount(draw, row) == Amount::kTokens) {
    sort_part<Amount::kTokens>(row, row.part(blockIdx.x), shared);
  } else {
    sort_part<Amount::kMass>(row, row.part(blockIdx.x), shared);
  }
  const uint32_t digit = threadIdx.x;
  if (digit >= kFirstDigits || sum_of(shared.bins, digit) == 0) return;
  uint64_t& amount = args.logits.states[blockIdx.y].tally.amounts[digit];
  atomicAdd(reinterpret_cast<unsigned long long*>(&amount), sum_of(shared.bins, digit));
}

/// The first digit of where the first cut is.
__device__ __forceinline__ End find_first_cut(const Draw& draw, const Row& row,
                                              const DrawState& state, Shared& shared) {
  return find_end(
      1, [&](uint32_t digit) { return digit < kFirstDigits ? state.tally.amounts[digit] : 0; },
      [&](uint64_t total) { return cut_share(first_amount(draw, row), draw, total); }, shared);
}

/// The first digit of tokens that are listed: all if there are two cuts, of which the second can be
/// anywhere.
__device__ __forceinline__ uint32_t first_listed(const Draw& draw, const Row& row,
                                                 const End& first_cut) {
  return has_top_k(draw, row.cols) && has_top_p(draw) ? 0 : first_cut.index;
}

/// Of the tokens that a part may list, and where its list begins.
__device__ __forceinline__ uint32_t list_room(const Row& row) {
  return DrawState::kMaxListed / row.num_parts;
}

/// The mass of the part, but of tokens with a digit from `first_digit` on a list.
__device__ __forceinline__ uint64_t sum_or_list(const Row& row, uint32_t part, uint32_t first_digit,
                                                DrawState& state, Shared& shared) {
  if (threadIdx.x == 0) shared.num_listed = 0;
  __syncthreads();
  DrawState::Listed* const list = state.listed + part * list_room(row);
  uint64_t sum = 0;
  const auto see = [&](uint32_t token, float logit) {
    const uint32_t deficit = row.deficit(logit);
    const uint64_t mass = row.mass(deficit);
    if (deficit >> kFirstShift < first_digit) {
      sum += mass;
    } else if (mass > 0) {
      const uint32_t at = atomicAdd(&shared.num_listed, 1);
      if (at < list_room(row)) list[at] = {token, deficit};
    }
  };
  see_part<kFoursAtOnce>(row.logits, row.part(part), threadIdx.x, kThreads, see);
  return add_up(sum, shared).total;
}

/// Whether the row's other parts are done. What their blocks wrote can then be read.
__device__ __forceinline__ bool is_last(const Row& row, DrawState& state, Shared& shared) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    shared.is_last = atomicAdd(&state.tally.num_done, 1) == row.num_parts - 1;
    __threadfence();
  }
  __syncthreads();
  return shared.is_last;
}

/// Calls `see` with tokens of all parts, and their deficits: those listed, or all of a part that
/// had no room for them.
template <typename See>
__device__ __forceinline__ void see_listed(const Row& row, const DrawState& state, const See& see) {
  const uint32_t num_threads = kThreads / row.num_parts;  // of a part
  const uint32_t part = threadIdx.x / num_threads, thread = threadIdx.x % num_threads;
  const uint32_t count = state.num_listed[part];
  if (count > list_room(row)) {
    see_part<1>(row.logits, row.part(part), thread, num_threads,
                [&](uint32_t token, float logit) { see(token, row.deficit(logit)); });
    return;
  }
  for (uint32_t i = thread; i < count; i += num_threads) {
    const DrawState::Listed listed = state.listed[part * list_room(row) + i];
    see(listed.token, listed.deficit);
  }
}

/// Into the bins: the amounts of listed tokens by the digit of their deficit that ends at bit
/// `shift`, if the digits before are as in `found`.
template <Amount kAmount>
__device__ __forceinline__ void sort_listed(const Row& row, const DrawState& state, uint32_t found,
                                            uint32_t shift, Shared& shared) {
  clear(shared.bins);
  see_listed(row, state, [&](uint32_t, uint32_t deficit) {
    const uint32_t digits = deficit >> shift;
    if (digits >> kDigitBits != found) return;
    add(shared.bins, digits % kBins, row.amount<kAmount>(deficit));
  });
  __syncthreads();
}

/// The deficit at which a cut is whose first digit is known.
template <Amount kAmount>
__device__ __forceinline__ uint32_t deficit_at(End cut, const Row& row, const DrawState& state,
                                               Shared& shared) {
  uint32_t found = cut.index;
  for (uint32_t shift = kFirstShift; shift > 0; shift -= kDigitBits) {
    sort_listed<kAmount>(row, state, found, shift - kDigitBits, shared);
    cut = find_end_in_bins([&](uint64_t) { return cut.share; }, shared);
    found = found << kDigitBits | cut.index;
  }
  return found;
}

/// What the cuts leave.
__device__ __forceinline__ uint32_t find_max_deficit(Row row, const Draw& draw,
                                                     const End& first_cut, const DrawState& state,
                                                     Shared& shared) {
  if (first_amount(draw, row) == Amount::kMass) {
    return deficit_at<Amount::kMass>(first_cut, row, state, shared);
  }
  row.max_deficit = deficit_at<Amount::kTokens>(first_cut, row, state, shared);
  if (!has_top_p(draw)) return row.max_deficit;
  sort_listed<Amount::kMass>(row, state, 0, kFirstShift, shared);
  const End second_cut = find_end_in_bins(
      [&](uint64_t total) { return cut_share(Amount::kMass, draw, total); }, shared);
  return deficit_at<Amount::kMass>(second_cut, row, state, shared);
}

/// Into the bins: the masses of what is listed, by part.
__device__ __forceinline__ void sum_listed(const Row& row, uint32_t first_digit,
                                           const DrawState& state, Shared& shared) {
  const uint32_t width = part_width(row.cols, row.num_parts);
  see_listed(row, state, [&](uint32_t token, uint32_t deficit) {
    if (deficit >> kFirstShift < first_digit) return;
    add(shared.bins, token / width, row.mass(deficit));
  });
  __syncthreads();
}

/// In the bins: the masses of parts that are not in the state.
__device__ __forceinline__ uint32_t token_at(double place, const Row& row, const DrawState& state,
                                             Shared& shared) {
  const auto mass_of_part = [&](uint32_t part) {
    return part < row.num_parts ? state.masses[part] + sum_of(shared.bins, part) : 0;
  };
  const auto units = [&](uint64_t total) { return unit_at(place, total) + 1; };
  const End end = find_end(1, mass_of_part, units, shared);
  const Part part = row.part(end.index);
  const auto mass_of_token = [&](uint32_t index) {
    const uint32_t token = part.first + index;
    return token < part.end ? row.mass(row.deficit(row.logits[token])) : 0;
  };
  const auto count = uint32_t(divide_up(part.end - part.first, kThreads));
  const auto units_left = [&](uint64_t) { return end.share; };
  return part.first + find_end(count, mass_of_token, units_left, shared).index;
}

__global__ __launch_bounds__(kThreads) void draw(const __grid_constant__ DrawArgs args) {
  __shared__ Shared shared;
  let_next_kernel_start();
  wait_for_kernels_before();
  const Draw draw = args.draws[blockIdx.y];
  Row row = make_row(args, draw, blockIdx.y);
  uint32_t& token = args.tokens[blockIdx.y];
  if (takes_best(draw, row)) {
    if (blockIdx.x > 0 || threadIdx.x > 0) return;
    token = largest_column(args.logits.keys + size_t(blockIdx.y) * kLargestParts);
    return;
  }
  DrawState& state = args.logits.states[blockIdx.y];
  const bool cut = is_cut(draw, row.cols);
  End first_cut;
  uint32_t first_digit = kFirstDigits;  // on the list
  if (cut) {
    first_cut = find_first_cut(draw, row, state, shared);
    first_digit = first_listed(draw, row, first_cut);
    row.max_deficit = ((first_cut.index + 1) << kFirstShift) - 1;
  }
  const uint64_t mass = sum_or_list(row, blockIdx.x, first_digit, state, shared);
  if (threadIdx.x == 0) {
    state.masses[blockIdx.x] = mass;
    state.num_listed[blockIdx.x] = shared.num_listed;
  }
  if (!is_last(row, state, shared)) return;
  if (cut) row.max_deficit = find_max_deficit(row, draw, first_cut, state, shared);
  clear(shared.bins);
  if (cut) sum_listed(row, first_digit, state, shared);
  const uint32_t drawn = token_at(draw.place, row, state, shared);
  if (threadIdx.x == 0) token = drawn;
}

/// As many as find a place at once, and a power of two: each takes a block much the same time, be
/// it ever so short.
uint32_t parts_of_row(const DrawArgs& args, const DeviceInfo& device) {
  constexpr uint32_t kBlocksAtOnce = 2048 / kThreads;  // of a multiprocessor
  const size_t most = kBlocksAtOnce * device.num_multiprocessors;
  uint32_t num_parts = kMaxDrawParts;
  while (num_parts > 1 && size_t(num_parts) * args.logits.num_rows > most) num_parts /= 2;
  return num_parts;
}

}  // namespace

cudaError_t launch_draw(const DrawArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  const dim3 grid(parts_of_row(args, device), args.logits.num_rows);
  const Launch launch{grid, kThreads, 0, stream, can_overlap(device)};
  if (args.any_cut) {
    if (const cudaError_t error = launch_kernel<sort_logits>(launch, args)) return error;
  }
  return launch_kernel<draw>(launch, args);
}

}  // namespace pregate::compute::cuda
