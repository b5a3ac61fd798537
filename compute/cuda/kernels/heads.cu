// Queries, keys and values on their way from the products to attention, in one kernel: normed,
// clipped and turned, and keys and values stored. A warp takes a head of a row; where a norm is
// over all heads of a row, a block takes those.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/four.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/norm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/reduce.cuh"
#include "compute/cuda/kv_layout.h"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 128;

enum class Part : uint32_t { kQueries, kKeys, kValues };
constexpr uint32_t kNumParts = 3;

__device__ __forceinline__ const HeadRows& rows_of(const PlaceHeadsArgs& args, Part part) {
  return part == Part::kQueries ? args.q : part == Part::kKeys ? args.k : args.v;
}

__device__ __forceinline__ uint32_t count_heads(const PlaceHeadsArgs& args, Part part) {
  return part == Part::kQueries ? args.num_heads : args.kv.num_heads;
}

constexpr bool is_over_all_heads(const PlaceHeadsArgs& args, const HeadRows& rows) {
  return rows.norm_width > args.kv.head_dim;
}

/// Where the numbers of a head go: `width` of them, of which the last may be nobody's and zero.
struct Place {
  std::byte* to;
  DType dtype;
  uint32_t width;

  __device__ __forceinline__ void store(uint32_t col, const Four& four, uint32_t count) const {
    if (dtype == DType::kF32) {
      store_four(reinterpret_cast<float*>(to) + col, four, count);
    } else {
      store_bf16(reinterpret_cast<uint16_t*>(to) + col, four, count);
    }
  }
};

__device__ __forceinline__ Place place_of(const PlaceHeadsArgs& args, Part part, uint32_t head) {
  const KvLayer& kv = args.kv;
  if (part == Part::kQueries) {
    float* const row = args.q_out + size_t(blockIdx.x) * args.q_out_stride;
    const size_t first = size_t(head) * kv.head_dim;
    return {reinterpret_cast<std::byte*>(row + first), DType::kF32, kv.head_dim};
  }
  const auto width = uint32_t(kv_width(kv.dtype, kv.head_dim));
  const uint32_t slot = args.slots[blockIdx.x];
  const size_t first = (size_t(slot / kKvTokens) * kv.num_heads + head) * 2 * kKvTokens;
  const size_t token = first + (part == Part::kKeys ? 0 : kKvTokens) + slot % kKvTokens;
  return {kv.data + token * width * dtype_bytes(kv.dtype), kv.dtype, width};
}

/// Of a row.
struct Head {
  const float* x;
  const float* weight;  ///< Or null.
  const float* cos;
  const float* sin;
  uint32_t dim;
  uint32_t half;  ///< Pairs that turn.
  Place place;

  __device__ __forceinline__ Head(const PlaceHeadsArgs& args, Part part, uint32_t index)
      : x(rows_of(args, part).x + size_t(blockIdx.x) * rows_of(args, part).stride +
          size_t(index) * args.kv.head_dim),
        weight(weight_of(args, rows_of(args, part), index)),
        cos(args.cos + size_t(blockIdx.x) * args.half),
        sin(args.sin + size_t(blockIdx.x) * args.half),
        dim(args.kv.head_dim),
        half(part == Part::kValues ? 0 : args.half),
        place(place_of(args, part, index)) {}

 private:
  static __device__ __forceinline__ const float* weight_of(const PlaceHeadsArgs& args,
                                                           const HeadRows& rows, uint32_t index) {
    if (rows.norm_width == 0) return nullptr;
    return rows.norm + (is_over_all_heads(args, rows) ? size_t(index) * args.kv.head_dim : 0);
  }
};

/// What a lane does of a head at a time: four numbers that turn and their partners, or four that
/// stay. Made, it has asked for all that they need.
class Piece {
 public:
  __device__ __forceinline__ Piece(const Head& head, uint32_t index) {
    const auto num_turning = uint32_t(divide_up(head.half, 4));
    turns_ = index < num_turning;
    col_ = turns_ ? 4 * index : 2 * head.half + 4 * (index - num_turning);
    const uint32_t end = turns_ ? head.half : head.dim;
    count_ = col_ < end ? end - col_ : 0;
    first_ = Weighed(head, col_, count_);
    if (!turns_) return;
    second_ = Weighed(head, col_ + head.half, count_);
    cos_ = load_four(head.cos + col_, count_);
    sin_ = load_four(head.sin + col_, count_);
  }

  static __device__ __forceinline__ uint32_t count(const Head& head) {
    return uint32_t(divide_up(head.half, 4) + divide_up(head.place.width - 2 * head.half, 4));
  }

  /// Where nobody else still reads: queries may stay where they are.
  __device__ __forceinline__ void store(const Head& head, float scale, float limit) {
    Four first = first_.finished(scale, limit);
    if (!turns_) return head.place.store(col_, first, head.place.width - col_);
    Four second = second_.finished(scale, limit);
    turn(first, second);
    head.place.store(col_, first, count_);
    head.place.store(col_ + head.half, second, count_);
  }

 private:
  struct Weighed {
    Four x{}, weight{};

    Weighed() = default;
    __device__ __forceinline__ Weighed(const Head& head, uint32_t col, uint32_t count)
        : x(load_four(head.x + col, count)), weight{1.0f, 1.0f, 1.0f, 1.0f} {
      if (head.weight != nullptr) weight = load_four(head.weight + col, count);
    }

    __device__ __forceinline__ Four finished(float scale, float limit) const {
      Four result;
      for (uint32_t i = 0; i < 4; ++i) {
        const float value = x.x[i] * scale * weight.x[i];
        result.x[i] = value < -limit ? -limit : value > limit ? limit : value;
      }
      return result;
    }
  };

  __device__ __forceinline__ void turn(Four& first, Four& second) const {
    for (uint32_t i = 0; i < 4; ++i) {
      const float x = first.x[i], y = second.x[i];
      first.x[i] = __fsub_rn(__fmul_rn(x, cos_.x[i]), __fmul_rn(y, sin_.x[i]));
      second.x[i] = __fadd_rn(__fmul_rn(y, cos_.x[i]), __fmul_rn(x, sin_.x[i]));
    }
  }

  bool turns_;
  uint32_t col_, count_;  // the first of four, and how many there are
  Weighed first_, second_;
  Four cos_{}, sin_{};
};

/// By a warp, which has the first pieces already.
__device__ __forceinline__ void store(const Head& head, Piece& piece, float scale, float limit) {
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t index = lane; index < Piece::count(head); index += 32) {
    if (index != lane) piece = Piece(head, index);
    piece.store(head, scale, limit);
  }
}

/// Of `width` numbers, the thread's part.
__device__ __forceinline__ float sum_squares(const float* x, uint32_t width, NormThread thread) {
  return thread.sum_squares(width, [&](uint32_t col) { return load_four(x + col, width - col); });
}

/// Of a norm of its own, by a warp.
__device__ __forceinline__ float scale_of(const Head& head, float epsilon) {
  if (head.weight == nullptr) return 1.0f;
  const float sum = sum_squares(head.x, head.dim, {threadIdx.x % 32, 32});
  return norm_scale(sum_of_warp(sum), head.dim, epsilon);
}

/// In this order: attention, which follows, reads tables that were written before without waiting.
__device__ __forceinline__ void wait_before_next_starts() {
  wait_for_kernels_before();
  let_next_kernel_start();
}

/// A head by a warp: those of queries, then those of keys, then those of values.
__global__ __launch_bounds__(kThreads) void place_heads(
    const __grid_constant__ PlaceHeadsArgs args) {
  uint32_t index = (blockIdx.y * kThreads + threadIdx.x) / 32, part = 0;
  while (part < kNumParts && index >= count_heads(args, Part(part))) {
    index -= count_heads(args, Part(part++));
  }
  if (part == kNumParts) return;
  const HeadRows& rows = rows_of(args, Part(part));
  NormThread{threadIdx.x % 32, 32}.prefetch_weight(rows.norm, rows.norm_width);
  wait_before_next_starts();
  const Head head(args, Part(part), index);
  Piece piece(head, threadIdx.x % 32);
  store(head, piece, scale_of(head, args.epsilon), args.limit);
}

/// Of a norm over all heads, by a block of its threads or of more.
__device__ __forceinline__ float scale_of(const HeadRows& rows, float epsilon) {
  const NormThread thread{threadIdx.x, threads_of_norm(rows.norm_width)};
  const float* const x = rows.x + size_t(blockIdx.x) * rows.stride;
  const uint32_t width = thread.index < thread.count ? rows.norm_width : 0;
  return norm_scale(sum_of_block(sum_squares(x, width, thread)), rows.norm_width, epsilon);
}

/// All heads of queries, of keys or of values by a block.
__global__ __launch_bounds__(kMaxBlockThreads) void place_rows(
    const __grid_constant__ PlaceHeadsArgs args) {
  const auto part = Part(blockIdx.y);
  const HeadRows& rows = rows_of(args, part);
  NormThread{threadIdx.x, blockDim.x}.prefetch_weight(rows.norm, rows.norm_width);
  wait_before_next_starts();
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t num_heads = count_heads(args, part);
  Head head(args, part, min(warp, num_heads - 1));
  Piece piece(head, lane);
  const bool as_one = is_over_all_heads(args, rows);
  const float scale = as_one ? scale_of(rows, args.epsilon) : 0.0f;
  for (uint32_t index = warp; index < num_heads; index += blockDim.x / 32) {
    if (index != warp) {
      head = Head(args, part, index);
      piece = Piece(head, lane);
    }
    store(head, piece, as_one ? scale : scale_of(head, args.epsilon), args.limit);
  }
}

}  // namespace

cudaError_t launch_place_heads(const PlaceHeadsArgs& args, const DeviceInfo& device,
                               cudaStream_t stream) {
  if (args.num_rows == 0) return cudaSuccess;
  const bool overlap = can_overlap(device);
  if (is_over_all_heads(args, args.q) || is_over_all_heads(args, args.k)) {
    const uint32_t widest = max(args.q.norm_width, args.k.norm_width);
    const dim3 grid(args.num_rows, kNumParts);
    return launch_kernel<place_rows>({grid, threads_of_norm(widest), 0, stream, overlap}, args);
  }
  const uint32_t num_heads = args.num_heads + 2 * args.kv.num_heads;
  const dim3 grid(args.num_rows, uint32_t(divide_up(num_heads, kThreads / 32)));
  return launch_kernel<place_heads>({grid, kThreads, 0, stream, overlap}, args);
}

}  // namespace pregate::compute::cuda
