// The paged KV cache and attention over it, in f32 on the ordinary units. A block takes one tile of
// queries, one KV head and one split of tokens, so that few sequences with long contexts occupy the
// whole device, and the queries of a KV head share what it reads. It writes the sums of its split;
// a second kernel adds up the splits of each query.
//
// Each score and each sum is made by one thread in one order, whatever the size of the tile, so
// that tiles of all sizes give the same bits.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/reduce.cuh"
#include "compute/cuda/kv_layout.h"
#include "compute/number.h"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kTokens = kSplitTokens;
constexpr uint32_t kSplitBlocks = kSplitTokens / kKvTokens;
constexpr uint32_t kPieces = kBlockBytes / 16;
/// Of keys or values: kBlockBytes of each token of the split, with layout.h's swizzle.
constexpr uint32_t kChunkBytes = kTokens * kBlockBytes;
constexpr float kMinusInfinity = -__builtin_inff();

static_assert(kThreads / kPieces == kKvTokens, "a pass of all threads brings a block's tokens");

/// How numbers of a type lie in a chunk.
template <DType kType>
struct Chunk {
  static constexpr uint32_t kNumberBytes = kType == DType::kF32 ? 4 : 2;
  static constexpr uint32_t kColumns = kBlockBytes / kNumberBytes;
  static constexpr uint32_t kPieceNumbers = 16 / kNumberBytes;
  static constexpr uint32_t kLaneNumbers = kColumns / 32;
};

struct Query {
  uint32_t vector;      // its first number in q
  uint32_t partial;     // of sums and parts
  uint32_t first, end;  // tokens of the split that it sees
};

/// How a block divides a tile: kQueryWarps warps have kPerWarp queries each and all tokens, or all
/// warps have the same queries and a part of the tokens each.
template <DType kDType, uint32_t kQueriesOfWarp, uint32_t kWarpsOfQueries>
struct Shape {
  static constexpr DType kType = kDType;
  static constexpr uint32_t kPerWarp = kQueriesOfWarp, kQueryWarps = kWarpsOfQueries;
  static constexpr uint32_t kQueries = kPerWarp * kQueryWarps;
  static constexpr uint32_t kTokensOfThread = kTokens / 32 * kQueryWarps / kWarps;
  /// For sums of values, of which each warp has some.
  static constexpr uint32_t kSumsOfWarp = divide_up(kQueries, kWarps);
  /// Few queries wait for memory: heads of 128 in bf16 are then read all at once.
  static constexpr uint32_t kStages = kQueryWarps == 1 ? 4 : 2;
  static constexpr uint32_t kQueryBytes = kQueries * Chunk<kType>::kColumns * sizeof(float);
  static constexpr uint32_t kStageBytes = kChunkBytes + kQueryBytes;
  static constexpr uint32_t kScoresAt = kStages * kStageBytes;
  static constexpr uint32_t kQueriesAt = kScoresAt + kQueries * kTokens * sizeof(float);
  static constexpr uint32_t kBytes = kQueriesAt + kQueries * sizeof(Query);
};

/// The tokens of a split between two positions.
struct Seen {
  uint32_t first, end;
};

__device__ __forceinline__ uint32_t token_of(uint32_t position, uint32_t split) {
  const uint32_t first = split * kTokens;
  return position > first ? min(position - first, kTokens) : 0;
}

__device__ __forceinline__ uint32_t first_seen(uint32_t end, uint32_t window) {
  return window > 0 && end > window ? end - window : 0;
}

/// What rows `first_row` to `last_row` of a sequence see.
__device__ __forceinline__ Seen seen_by(const AttentionTile& tile, uint32_t first_row,
                                        uint32_t last_row, uint32_t window, uint32_t split) {
  const uint32_t first = first_seen(tile.first_position + first_row + 1, window);
  return {token_of(first, split), token_of(tile.first_position + last_row + 1, split)};
}

struct Unit {
  const AttentionArgs& args;
  AttentionTile tile;
  uint32_t split;
  uint32_t kv_head;
  uint32_t group;  // query heads of a KV head

  __device__ __forceinline__ Query query(uint32_t index) const {
    if (index >= tile.num_queries) return {};
    const uint32_t row = (tile.first_query + index) / group;
    const uint32_t head = kv_head * group + (tile.first_query + index) % group;
    const uint32_t row_of_q = tile.first_row + row;
    const Seen seen = seen_by(tile, row, row, args.window, split);
    const uint32_t begin = first_seen(tile.first_position + row + 1, args.window);
    const uint32_t partial = args.first_partial[row_of_q] + split - begin / kTokens;
    return {row_of_q * args.q_stride + head * args.kv.head_dim, partial * args.num_heads + head,
            seen.first, seen.end};
  }

  /// What any of its queries sees. The rest is not read: it may never have been written, or be
  /// another sequence's by now.
  __device__ __forceinline__ Seen seen() const {
    return seen_by(tile, tile.first_query / group,
                   (tile.first_query + tile.num_queries - 1) / group, args.window, split);
  }
};

/// Brings keys, values and queries into the stages: a step is a chunk of all keys, and after those
/// a chunk of all values.
template <typename S>
class Fetcher {
  using C = Chunk<S::kType>;

 public:
  __device__ __forceinline__ Fetcher(const Unit& unit, const Query* queries, uint8_t* memory)
      : unit_(unit), queries_(queries), memory_(memory), seen_(unit.seen()) {
    const KvLayer& kv = unit.args.kv;
    row_bytes_ = uint32_t(kv_width(S::kType, kv.head_dim)) * C::kNumberBytes;
    num_chunks_ = uint32_t(divide_up(row_bytes_, kBlockBytes));
    const uint32_t* blocks = unit.args.blocks + unit.tile.first_block + unit.split * kSplitBlocks;
    for (uint32_t i = 0; i < kSplitBlocks; ++i) {
      const bool is_seen = kKvTokens * i < seen_.end && kKvTokens * (i + 1) > seen_.first;
      blocks_[i] = is_seen ? blocks[i] : 0;
    }
  }

  __device__ __forceinline__ uint32_t num_chunks() const { return num_chunks_; }
  __device__ __forceinline__ uint8_t* stage(uint32_t step) const {
    return memory_ + step % S::kStages * S::kStageBytes;
  }

  /// Keys and values of a token by the threads that will fetch them, as far as those suffice.
  __device__ __forceinline__ void prefetch_rows() const {
    const uint32_t line = threadIdx.x % kPieces, slot = threadIdx.x / kPieces;
    const bool is_key = line < num_chunks_;
    const uint32_t chunk = is_key ? line : line - num_chunks_;
    if (chunk >= num_chunks_) return;
#pragma unroll
    for (uint32_t i = 0; i < kSplitBlocks; ++i) {
      const uint32_t token = kKvTokens * i + slot;
      if (token >= seen_.first && token < seen_.end) {
        prefetch(row(i, slot, is_key) + chunk * kBlockBytes);
      }
    }
  }

  /// Begins it; a group of copies of its own.
  __device__ __forceinline__ void fetch_rows(uint32_t step) const {
    const bool is_key = step < num_chunks_;
    if (step < 2 * num_chunks_) fetch_rows(step, is_key ? step : step - num_chunks_, is_key);
    commit_copies();  // an empty group keeps the count right
  }

  /// Those of a step with keys. Waits for them, so copies are better begun before.
  __device__ __forceinline__ void fetch_queries(uint32_t step) const {
    if (step >= num_chunks_) return;
    auto* const to = reinterpret_cast<float*>(stage(step) + kChunkBytes);
    const uint32_t head_dim = unit_.args.kv.head_dim;
#pragma unroll 8
    for (uint32_t i = threadIdx.x; i < S::kQueries * C::kColumns; i += kThreads) {
      const uint32_t query = i / C::kColumns, col = step * C::kColumns + i % C::kColumns;
      const bool is_there = query < unit_.tile.num_queries && col < head_dim;
      to[i] = is_there ? unit_.args.q[size_t(queries_[query].vector) + col] : 0.0f;
    }
  }

 private:
  /// Of the KV cache: a token of the split's block `i`.
  __device__ __forceinline__ const std::byte* row(uint32_t i, uint32_t slot, bool is_key) const {
    const KvLayer& kv = unit_.args.kv;
    const size_t head = size_t(blocks_[i]) * kv.num_heads + unit_.kv_head;
    return kv.data + (head * 2 * kKvTokens + (is_key ? 0 : kKvTokens) + slot) * row_bytes_;
  }

  __device__ __forceinline__ void fetch_rows(uint32_t step, uint32_t chunk, bool is_key) const {
    const uint32_t piece = threadIdx.x % kPieces, slot = threadIdx.x / kPieces;
    const uint32_t at = chunk * kBlockBytes + 16 * piece;
#pragma unroll
    for (uint32_t i = 0; i < kSplitBlocks; ++i) {
      const uint32_t token = kKvTokens * i + slot;
      uint8_t* const to = stage(step) + swizzled(token, 16 * piece);
      if (token < seen_.first || token >= seen_.end || at >= row_bytes_) {
        *reinterpret_cast<uint4*>(to) = uint4{};
        continue;
      }
      copy_async_16(shared_address(to), row(i, slot, is_key) + at);
    }
  }

  const Unit& unit_;
  const Query* const queries_;
  uint8_t* const memory_;
  const Seen seen_;
  uint32_t row_bytes_, num_chunks_;
  uint32_t blocks_[kSplitBlocks];
};

__device__ __forceinline__ void unpack(const uint8_t* piece, float (&x)[4]) {
  const float4 four = *reinterpret_cast<const float4*>(piece);
  x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
}

__device__ __forceinline__ void unpack_pair(uint32_t pair, float& first, float& second) {
  first = __uint_as_float(pair << 16);
  second = __uint_as_float(pair & 0xffff0000u);
}

__device__ __forceinline__ void unpack(const uint8_t* piece, float (&x)[8]) {
  const uint4 pairs = *reinterpret_cast<const uint4*>(piece);
  unpack_pair(pairs.x, x[0], x[1]);
  unpack_pair(pairs.y, x[2], x[3]);
  unpack_pair(pairs.z, x[4], x[5]);
  unpack_pair(pairs.w, x[6], x[7]);
}

__device__ __forceinline__ void unpack(const uint8_t* number, float (&x)[1]) {
  x[0] = *reinterpret_cast<const float*>(number);
}

template <DType kType>
__device__ __forceinline__ float read_number(const uint8_t* number) {
  if constexpr (kType == DType::kF32) return *reinterpret_cast<const float*>(number);
  return bf16_to_f32(*reinterpret_cast<const uint16_t*>(number));
}

__device__ __forceinline__ void unpack(const uint8_t* pair, float (&x)[2]) {
  unpack_pair(*reinterpret_cast<const uint32_t*>(pair), x[0], x[1]);
}

/// The scores of a thread: tokens 32 apart, for the queries of its warp.
template <typename S>
class Scores {
  using C = Chunk<S::kType>;

 public:
  /// Adds a chunk of the products.
  __device__ __forceinline__ void add(const uint8_t* stage) {
    const auto* queries =
        reinterpret_cast<const float*>(stage + kChunkBytes) + first_query() * C::kColumns;
#pragma unroll 2
    for (uint32_t piece = 0; piece < kPieces; ++piece) {
      float keys[S::kTokensOfThread][C::kPieceNumbers];
#pragma unroll
      for (uint32_t t = 0; t < S::kTokensOfThread; ++t) {
        unpack(stage + swizzled(token(t), 16 * piece), keys[t]);
      }
#pragma unroll
      for (uint32_t i = 0; i < S::kPerWarp; ++i) {
        add_products(queries + i * C::kColumns + piece * C::kPieceNumbers, keys, sums_[i]);
      }
    }
  }

  /// [query][token]; minus infinity for what a query does not see.
  __device__ __forceinline__ void store(const Query* queries, float scale, float* scores) const {
#pragma unroll
    for (uint32_t i = 0; i < S::kPerWarp; ++i) {
      const Query query = queries[first_query() + i];
#pragma unroll
      for (uint32_t t = 0; t < S::kTokensOfThread; ++t) {
        const bool is_seen = token(t) >= query.first && token(t) < query.end;
        scores[(first_query() + i) * kTokens + token(t)] =
            is_seen ? sums_[i][t] * scale : kMinusInfinity;
      }
    }
  }

 private:
  static __device__ __forceinline__ uint32_t first_query() {
    return threadIdx.x / 32 % S::kQueryWarps * S::kPerWarp;
  }
  static __device__ __forceinline__ uint32_t token(uint32_t t) {
    const uint32_t part = threadIdx.x / 32 / S::kQueryWarps;
    return 32 * (part * S::kTokensOfThread + t) + threadIdx.x % 32;
  }

  static __device__ __forceinline__ void add_products(
      const float* query, const float (&keys)[S::kTokensOfThread][C::kPieceNumbers],
      float (&sums)[S::kTokensOfThread]) {
#pragma unroll
    for (uint32_t first = 0; first < C::kPieceNumbers; first += 4) {
      const float4 x = *reinterpret_cast<const float4*>(query + first);
#pragma unroll
      for (uint32_t t = 0; t < S::kTokensOfThread; ++t) {
        sums[t] = __fmaf_rn(x.x, keys[t][first], sums[t]);
        sums[t] = __fmaf_rn(x.y, keys[t][first + 1], sums[t]);
        sums[t] = __fmaf_rn(x.z, keys[t][first + 2], sums[t]);
        sums[t] = __fmaf_rn(x.w, keys[t][first + 3], sums[t]);
      }
    }
  }

  float sums_[S::kPerWarp][S::kTokensOfThread] = {};
};

/// By a warp: the scores of a query become exp(score - largest).
__device__ __forceinline__ SoftmaxPart soften(float* scores) {
  constexpr uint32_t kEach = kTokens / 32;
  const uint32_t lane = threadIdx.x % 32;
  float own[kEach], largest = kMinusInfinity, total = 0.0f;
  for (uint32_t i = 0; i < kEach; ++i) {
    own[i] = scores[32 * i + lane];
    largest = fmaxf(largest, own[i]);
  }
  largest = largest_of_warp(largest);
  if (largest == kMinusInfinity) largest = 0.0f;  // it sees nothing: all become zero
  for (uint32_t i = 0; i < kEach; ++i) {
    own[i] = __expf(own[i] - largest);
    scores[32 * i + lane] = own[i];
    total += own[i];
  }
  return {largest, sum_of_warp(total)};
}

template <typename S>
__device__ __forceinline__ void soften_all(const AttentionArgs& args, const Query* queries,
                                           float* scores) {
  for (uint32_t i = threadIdx.x / 32; i < S::kQueries; i += kWarps) {
    const SoftmaxPart part = soften(scores + i * kTokens);
    const bool is_seen = queries[i].first < queries[i].end;
    if (is_seen && threadIdx.x % 32 == 0) args.parts[queries[i].partial] = part;
  }
}

/// Sums of a chunk of the values, for kSumsOfWarp queries by a warp.
template <typename S>
__device__ __forceinline__ void add_values(const AttentionArgs& args, const Query* queries,
                                           const float* weights, const uint8_t* stage,
                                           uint32_t chunk) {
  using C = Chunk<S::kType>;
  const uint32_t lane = threadIdx.x % 32, first = threadIdx.x / 32 * S::kSumsOfWarp;
  if (first >= S::kQueries) return;
  float sums[S::kSumsOfWarp][C::kLaneNumbers] = {};
#pragma unroll 2
  for (uint32_t token = 0; token < kTokens; token += 4) {
    float values[4][C::kLaneNumbers];
#pragma unroll
    for (uint32_t t = 0; t < 4; ++t) {
      unpack(stage + swizzled(token + t, C::kLaneNumbers * C::kNumberBytes * lane), values[t]);
    }
#pragma unroll
    for (uint32_t i = 0; i < S::kSumsOfWarp; ++i) {
      const float4 four = *reinterpret_cast<const float4*>(weights + (first + i) * kTokens + token);
#pragma unroll
      for (uint32_t c = 0; c < C::kLaneNumbers; ++c) {
        sums[i][c] = __fmaf_rn(four.x, values[0][c], sums[i][c]);
        sums[i][c] = __fmaf_rn(four.y, values[1][c], sums[i][c]);
        sums[i][c] = __fmaf_rn(four.z, values[2][c], sums[i][c]);
        sums[i][c] = __fmaf_rn(four.w, values[3][c], sums[i][c]);
      }
    }
  }
  const auto width = uint32_t(kv_width(S::kType, args.kv.head_dim));
  const uint32_t col = chunk * C::kColumns + C::kLaneNumbers * lane;
  if (col >= width) return;
#pragma unroll
  for (uint32_t i = 0; i < S::kSumsOfWarp; ++i) {
    const Query query = queries[first + i];
    if (query.first >= query.end) continue;
    float* const out = args.sums + size_t(query.partial) * width + col;
    for (uint32_t c = 0; c < C::kLaneNumbers; ++c) out[c] = sums[i][c];
  }
}

/// Of all values, which are there at once, for the one query: a column by a thread.
template <typename S>
__device__ __forceinline__ void add_all_values(const AttentionArgs& args, const Query& query,
                                               const float* weights, const Fetcher<S>& fetcher) {
  using C = Chunk<S::kType>;
  const auto width = uint32_t(kv_width(S::kType, args.kv.head_dim));
  if (query.first >= query.end) return;
  for (uint32_t col = threadIdx.x; col < width; col += kThreads) {
    const uint8_t* const stage = fetcher.stage(fetcher.num_chunks() + col / C::kColumns);
    const uint32_t at = col % C::kColumns * C::kNumberBytes;
    float sum = 0.0f;
#pragma unroll 16
    for (uint32_t token = 0; token < kTokens; ++token) {
      sum = __fmaf_rn(weights[token], read_number<S::kType>(stage + swizzled(token, at)), sum);
    }
    args.sums[size_t(query.partial) * width + col] = sum;
  }
}

/// Tables are read before the kernel before has ended, which has not written them, but has waited
/// for who did before it let this one start.
template <typename S>
__global__ __launch_bounds__(kThreads) void attend(const __grid_constant__ AttentionArgs args,
                                                   const __grid_constant__ AttentionWork work) {
  uint8_t* const memory = dynamic_shared_memory();
  auto* const scores = reinterpret_cast<float*>(memory + S::kScoresAt);
  auto* const queries = reinterpret_cast<Query*>(memory + S::kQueriesAt);
  const AttentionUnit own = work.units[blockIdx.x];
  if (own.tile == kNoTile) return;
  const Unit unit{args, args.tiles[own.tile], own.split, blockIdx.y,
                  args.num_heads / args.kv.num_heads};
  if (threadIdx.x < S::kQueries) queries[threadIdx.x] = unit.query(threadIdx.x);
  const Fetcher<S> fetcher(unit, queries, memory);
  fetcher.prefetch_rows();
  wait_for_kernels_before();
  let_next_kernel_start();
  __syncthreads();
  for (uint32_t step = 0; step + 1 < S::kStages; ++step) fetcher.fetch_rows(step);
  for (uint32_t step = 0; step + 1 < S::kStages; ++step) fetcher.fetch_queries(step);
  const uint32_t num_chunks = fetcher.num_chunks();
  uint32_t step = 0;
  const auto next_stage = [&] {
    wait_for_copies<S::kStages - 2>();
    __syncthreads();
    fetcher.fetch_rows(step + S::kStages - 1);
    fetcher.fetch_queries(step + S::kStages - 1);
    return fetcher.stage(step++);
  };
  Scores<S> sums;
  while (step < num_chunks) sums.add(next_stage());
  sums.store(queries, args.scale, scores);
  __syncthreads();
  soften_all<S>(args, queries, scores);
  if (S::kQueries == 1 && 2 * num_chunks <= S::kStages) {
    wait_for_copies<0>();
    __syncthreads();
    return add_all_values(args, queries[0], scores, fetcher);
  }
  while (step < 2 * num_chunks) {
    const uint8_t* const stage = next_stage();
    add_values<S>(args, queries, scores, stage, step - 1 - num_chunks);
  }
}

/// The parts of a query's splits: partials from `first` on.
struct Parts {
  const AttentionArgs& args;
  uint32_t head;
  uint32_t first, end;

  __device__ __forceinline__ size_t at(uint32_t partial) const {
    return size_t(partial) * args.num_heads + head;
  }

  __device__ __forceinline__ float largest() const {
    float largest = kMinusInfinity;
    for (uint32_t i = first + threadIdx.x % 32; i < end; i += 32) {
      largest = fmaxf(largest, args.parts[at(i)].largest);
    }
    return largest_of_warp(largest);
  }
};

struct Added {
  float4 sum{};
  float total = 0.0f;
};

/// Every fourth of the splits, as many as there are warps: columns from `col` on.
__device__ __forceinline__ Added add_splits(const Parts& parts, float largest, uint32_t width,
                                            uint32_t col) {
  const AttentionArgs& args = parts.args;
  Added added;
#pragma unroll 4
  for (uint32_t i = parts.first + threadIdx.x / 32; i < parts.end; i += kWarps) {
    const SoftmaxPart part = args.parts[parts.at(i)];
    const float4 x = *reinterpret_cast<const float4*>(args.sums + parts.at(i) * width + col);
    const float weight = __expf(part.largest - largest);
    added.total = __fmaf_rn(weight, part.total, added.total);
    added.sum.x = __fmaf_rn(weight, x.x, added.sum.x);
    added.sum.y = __fmaf_rn(weight, x.y, added.sum.y);
    added.sum.z = __fmaf_rn(weight, x.z, added.sum.z);
    added.sum.w = __fmaf_rn(weight, x.w, added.sum.w);
  }
  return added;
}

/// A block for a query, kThreads columns at a time: first by warps, then a column by a thread.
__global__ __launch_bounds__(kThreads) void combine_splits(
    const __grid_constant__ AttentionArgs args, uint32_t width) {
  __shared__ float4 sums[kWarps][32];
  __shared__ float totals[kWarps];
  wait_for_kernels_before();
  let_next_kernel_start();
  const uint32_t row = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Parts parts{args, blockIdx.y, args.first_partial[row], args.first_partial[row + 1]};
  const float largest = parts.largest();
  float* const out =
      args.out + size_t(row) * args.out_stride + size_t(parts.head) * args.kv.head_dim;
  for (uint32_t first_col = 0; first_col < width; first_col += kThreads) {
    // What is past the last column is read twice, and left out below.
    const uint32_t col = min(first_col + 4 * lane, width - 4);
    const Added added = add_splits(parts, largest, width, col);
    sums[warp][lane] = added.sum;
    if (lane == 0) totals[warp] = added.total;
    __syncthreads();
    float sum = 0.0f, total = 0.0f;
    for (uint32_t w = 0; w < kWarps; ++w) {
      sum += reinterpret_cast<const float*>(sums[w])[threadIdx.x];
      total += totals[w];
    }
    if (first_col + threadIdx.x < args.kv.head_dim) out[first_col + threadIdx.x] = sum / total;
    __syncthreads();
  }
}

template <typename S>
cudaError_t launch(const AttentionArgs& args, const AttentionWork& work, bool overlap,
                   cudaStream_t stream) {
  const dim3 grid(work.num_units, args.kv.num_heads);
  return launch_kernel<attend<S>>({grid, kThreads, S::kBytes, stream, overlap}, args, work);
}

template <DType kType>
cudaError_t launch_work(const AttentionArgs& args, const AttentionWork& work, bool overlap,
                        cudaStream_t stream) {
  if (work.num_units == 0) return cudaSuccess;
  if (work.max_queries == 1) return launch<Shape<kType, 1, 1>>(args, work, overlap, stream);
  if (work.max_queries <= 4) return launch<Shape<kType, 4, 1>>(args, work, overlap, stream);
  if (work.max_queries <= 8) return launch<Shape<kType, 8, 1>>(args, work, overlap, stream);
  return launch<Shape<kType, 8, kWarps>>(args, work, overlap, stream);
}

static_assert(kFewQueries == 8 && kMaxTileQueries == 8 * kWarps);

cudaError_t launch_work(const AttentionArgs& args, const AttentionWork& work, bool overlap,
                        cudaStream_t stream) {
  if (args.kv.dtype == DType::kF32) return launch_work<DType::kF32>(args, work, overlap, stream);
  return launch_work<DType::kBf16>(args, work, overlap, stream);
}

}  // namespace

cudaError_t launch_attention(const AttentionArgs& args, const DeviceInfo& device,
                             cudaStream_t stream) {
  const bool overlap = can_overlap(device);
  const bool begins_early = overlap && !args.follows_tables;
  if (const cudaError_t error = launch_work(args, args.many, begins_early, stream)) return error;
  if (const cudaError_t error = launch_work(args, args.few, begins_early, stream)) return error;
  const auto width = uint32_t(kv_width(args.kv.dtype, args.kv.head_dim));
  const dim3 grid(args.num_rows, args.num_heads);
  return launch_kernel<combine_splits>({grid, kThreads, 0, stream, overlap}, args, width);
}

}  // namespace pregate::compute::cuda
