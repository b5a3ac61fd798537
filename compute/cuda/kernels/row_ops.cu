// What is done to rows in f32 between the products. Rows are so few when a model decodes that
// starting the kernels takes most of the time: each begins while the one before it still works, and
// has threads enough to be done in one go.
//
// Sums are in an order that depends on the width of a group alone, and not on how rows lie.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/activation.cuh"
#include "compute/cuda/kernels/encode.cuh"
#include "compute/cuda/kernels/four.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/reduce.cuh"
#include "compute/number.h"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 128;
/// A warp norms a group of so many numbers and less, a whole block one of more.
constexpr uint32_t kNarrowGroup = 512;
constexpr uint32_t kMaxBlockThreads = 1024;

/// Nothing before it may be touched.
__device__ __forceinline__ void begin() {
  let_next_kernel_start();
  wait_for_kernels_before();
}

__device__ __forceinline__ uint32_t thread_of_row() { return blockIdx.y * kThreads + threadIdx.x; }

/// A group, and the threads that norm it together.
struct NormGroup {
  const float* x;
  float* y;
  uint32_t thread, num_threads;

  __device__ __forceinline__ NormGroup(const NormArgs& args, uint32_t group, uint32_t thread_index,
                                       uint32_t thread_count)
      : x(args.x + size_t(blockIdx.x) * args.x_stride + size_t(group) * args.width),
        y(args.y + size_t(blockIdx.x) * args.y_stride + size_t(group) * args.width),
        thread(thread_index),
        num_threads(thread_count) {}

  /// They come from far away, as nothing has read them since the step before.
  __device__ __forceinline__ void prefetch_weight(const NormArgs& args) const {
    for (uint32_t col = 4 * thread; col < args.width; col += 4 * num_threads) {
      prefetch(args.weight + col);
    }
  }

  /// The thread's part of it.
  __device__ __forceinline__ float sum_squares(uint32_t width) const {
    float sum = 0.0f;
    for (uint32_t col = 4 * thread; col < width; col += 4 * num_threads) {
      const Four four = load_four(x + col, width - col);
      for (const float value : four.x) sum = __fmaf_rn(value, value, sum);
    }
    return sum;
  }

  /// Each thread writes where it alone has read: x and y may be the same.
  __device__ __forceinline__ void write(const NormArgs& args, float total) const {
    const float scale = 1.0f / sqrtf(total / float(args.width) + args.epsilon);
    for (uint32_t col = 4 * thread; col < args.width; col += 4 * num_threads) {
      const uint32_t count = args.width - col;
      Four four = load_four(x + col, count);
      const Four weight = load_four(args.weight + col, count);
      for (uint32_t i = 0; i < 4; ++i) four.x[i] = four.x[i] * scale * weight.x[i];
      store_four(y + col, four, count);
    }
  }
};

__global__ __launch_bounds__(kThreads) void norm_narrow(const __grid_constant__ NormArgs args) {
  let_next_kernel_start();
  const uint32_t index = thread_of_row() / 32;
  if (index >= args.num_groups) return;
  const NormGroup group(args, index, threadIdx.x % 32, 32);
  group.prefetch_weight(args);
  wait_for_kernels_before();
  group.write(args, sum_of_warp(group.sum_squares(args.width)));
}

/// By a block of up to 32 warps.
__device__ __forceinline__ float sum_of_block(float value) {
  __shared__ float parts[kMaxBlockThreads / 32];
  const uint32_t lane = threadIdx.x % 32;
  const float part = sum_of_warp(value);
  if (lane == 0) parts[threadIdx.x / 32] = part;
  __syncthreads();
  return sum_of_warp(lane < blockDim.x / 32 ? parts[lane] : 0.0f);
}

__global__ __launch_bounds__(kMaxBlockThreads) void norm_wide(
    const __grid_constant__ NormArgs args) {
  let_next_kernel_start();
  const NormGroup group(args, blockIdx.y, threadIdx.x, blockDim.x);
  group.prefetch_weight(args);
  wait_for_kernels_before();
  group.write(args, sum_of_block(group.sum_squares(args.width)));
}

/// Four pairs a thread.
__global__ __launch_bounds__(kThreads) void rotate(const __grid_constant__ RotateArgs args,
                                                   uint32_t fours_of_head) {
  begin();
  const uint32_t row = blockIdx.x, head = thread_of_row() / fours_of_head;
  if (head >= args.num_heads) return;
  const uint32_t j = thread_of_row() % fours_of_head * 4, count = args.half - j;
  float* const first = args.x + size_t(row) * args.stride + size_t(head) * args.head_dim + j;
  Four a = load_four(first, count), b = load_four(first + args.half, count);
  const size_t angle = size_t(row) * args.half + j;
  const Four cos = load_four(args.cos + angle, count), sin = load_four(args.sin + angle, count);
  for (uint32_t i = 0; i < 4; ++i) {
    const float x = a.x[i], y = b.x[i];
    a.x[i] = __fsub_rn(__fmul_rn(x, cos.x[i]), __fmul_rn(y, sin.x[i]));
    b.x[i] = __fadd_rn(__fmul_rn(y, cos.x[i]), __fmul_rn(x, sin.x[i]));
  }
  store_four(first, a, count);
  store_four(first + args.half, b, count);
}

/// Rows of an odd number of bf16 begin at a multiple of 2 only.
__device__ __forceinline__ void store_bf16(uint16_t* to, const Four& numbers, uint32_t count) {
  struct alignas(8) Rounded {
    uint16_t x[4];
  } rounded;
  for (uint32_t i = 0; i < 4; ++i) rounded.x[i] = f32_to_bf16(numbers.x[i]);
  if (count >= 4 && reinterpret_cast<uintptr_t>(to) % sizeof(Rounded) == 0) {
    *reinterpret_cast<Rounded*>(to) = rounded;
    return;
  }
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < count) to[i] = rounded.x[i];
  }
}

/// Four numbers of a row, by their number in it; a group of q8 by a warp, the other formats in the
/// same way. The first `count` are there.
__device__ __forceinline__ void store_encoded(WeightFormat format, std::byte* row, uint32_t cols,
                                              uint32_t four, const Four& numbers, uint32_t count) {
  if (format == WeightFormat::kF32) {
    store_four(reinterpret_cast<float*>(row) + 4 * four, numbers, count);
  } else if (format == WeightFormat::kBf16) {
    store_bf16(reinterpret_cast<uint16_t*>(row) + 4 * four, numbers, count);
  } else {
    const Q8Four encoded = encode_q8(numbers);
    auto* const words = reinterpret_cast<uint32_t*>(row);
    words[divide_up(cols, kQ8Group) + four] = encoded.values;
    if (four % 32 == 0) words[four / 32] = __float_as_uint(encoded.scale);
  }
}

__global__ __launch_bounds__(kThreads) void encode_rows(
    const __grid_constant__ EncodeRowsArgs args) {
  begin();
  const uint32_t row = blockIdx.x, four = thread_of_row(), col = 4 * four;
  if (col >= round_up(args.cols, kQ8Group)) return;
  const uint32_t count = col < args.cols ? args.cols - col : 0;
  const Four numbers = load_four(args.x + size_t(row) * args.stride + col, count);
  std::byte* const out = args.out + row * encoded_row_bytes(args.format, args.cols);
  store_encoded(args.format, out, args.cols, four, numbers, count);
}

/// A row by a block, in the order in which a norm of its own would sum it up.
class NormedRow {
 public:
  __device__ __forceinline__ NormedRow(const NormEncodeArgs& args)
      : args_(args),
        x_(args.x + size_t(blockIdx.x) * args.x_stride),
        y_(args.y + size_t(blockIdx.x) * args.y_stride),
        out_(args.out + blockIdx.x * encoded_row_bytes(args.format, args.cols)) {}

  __device__ __forceinline__ void prefetch_weight() const {
    for (uint32_t col = first(); col < args_.cols; col += step()) prefetch(args_.weight + col);
  }

  /// Of the thread's part of x, to which the addend has been added.
  __device__ __forceinline__ float sum_squares() const {
    float sum = 0.0f;
    for (uint32_t col = first(); col < args_.cols; col += step()) {
      const Four four = load(col, args_.cols - col);
      for (const float value : four.x) sum = __fmaf_rn(value, value, sum);
    }
    return sum;
  }

  __device__ __forceinline__ void write(float total) const {
    const float scale = 1.0f / sqrtf(total / float(args_.cols) + args_.epsilon);
    for (uint32_t col = first(); col < round_up(args_.cols, kQ8Group); col += step()) {
      const uint32_t count = col < args_.cols ? args_.cols - col : 0;
      Four four = load_four(x_ + col, count);
      const Four weight = load_four(args_.weight + col, count);
      for (uint32_t i = 0; i < 4; ++i) four.x[i] = four.x[i] * scale * weight.x[i];
      store_four(y_ + col, four, count);
      store_encoded(args_.format, out_, args_.cols, col / 4, four, count);
    }
  }

 private:
  static __device__ __forceinline__ uint32_t first() { return 4 * threadIdx.x; }
  static __device__ __forceinline__ uint32_t step() { return 4 * blockDim.x; }

  __device__ __forceinline__ Four load(uint32_t col, uint32_t count) const {
    Four four = load_four(x_ + col, count);
    if (args_.addend == nullptr) return four;
    const float* const addend = args_.addend + size_t(blockIdx.x) * args_.addend_stride;
    const Four added = load_four(addend + col, count);
    for (uint32_t i = 0; i < 4; ++i) four.x[i] += added.x[i];
    store_four(x_ + col, four, count);
    return four;
  }

  const NormEncodeArgs& args_;
  float* const x_;
  float* const y_;
  std::byte* const out_;
};

__global__ __launch_bounds__(kMaxBlockThreads) void norm_encode(
    const __grid_constant__ NormEncodeArgs args) {
  let_next_kernel_start();
  const NormedRow row(args);
  row.prefetch_weight();
  wait_for_kernels_before();
  row.write(sum_of_block(row.sum_squares()));
}

__global__ __launch_bounds__(kThreads) void add(const __grid_constant__ AddArgs args) {
  begin();
  const uint32_t row = blockIdx.x, col = 4 * thread_of_row();
  if (col >= args.cols) return;
  const uint32_t count = args.cols - col;
  const float gate = args.gate == nullptr ? 1.0f : sigmoid(args.gate[row]);
  float* const to = args.y + size_t(row) * args.y_stride + col;
  const Four x = load_four(args.x + size_t(row) * args.x_stride + col, count);
  Four sum = load_four(to, count);
  for (uint32_t i = 0; i < 4; ++i) sum.x[i] += gate * x.x[i];
  store_four(to, sum, count);
}

__global__ __launch_bounds__(kThreads) void clip(const __grid_constant__ ClipArgs args) {
  begin();
  const uint32_t col = 4 * thread_of_row();
  if (col >= args.cols) return;
  const uint32_t count = args.cols - col;
  float* const to = args.x + size_t(blockIdx.x) * args.stride + col;
  Four four = load_four(to, count);
  for (float& value : four.x) {
    value = value < -args.limit ? -args.limit : value > args.limit ? args.limit : value;
  }
  store_four(to, four, count);
}

__global__ __launch_bounds__(kThreads) void take_rows(const __grid_constant__ TakeRowsArgs args) {
  begin();
  const uint32_t row = blockIdx.x, col = 4 * thread_of_row();
  if (col >= args.cols) return;
  const uint32_t count = args.cols - col;
  const Four four = load_four(args.x + size_t(args.rows[row]) * args.x_stride + col, count);
  store_four(args.y + size_t(row) * args.y_stride + col, four, count);
}

/// The first one is taken as it is: added to zero, -0 would be none.
__device__ __forceinline__ void add_next(Four& sum, const Four& addend, bool is_first) {
  for (uint32_t i = 0; i < 4; ++i) {
    const float added = sum.x[i] + addend.x[i];
    sum.x[i] = is_first ? addend.x[i] : added;
  }
}

/// Addends come from far away, and so do their addresses: some of each are on their way at once.
/// At the end some are the last one again, which is there already and is not added.
__global__ __launch_bounds__(kThreads) void sum_rows(const __grid_constant__ SumRowsArgs args) {
  constexpr uint32_t kAtOnce = 4;
  begin();
  const uint32_t row = blockIdx.x, col = 4 * thread_of_row();
  if (col >= args.cols) return;
  const uint32_t count = args.cols - col;
  const uint32_t first = row == 0 ? 0 : args.ends[row - 1], end = args.ends[row];
  Four sum{};
  for (uint32_t next = first; next < end; next += kAtOnce) {
    const float* from[kAtOnce];
    Four addends[kAtOnce];
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; ++i) from[i] = args.addends[min(next + i, end - 1)] + col;
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; ++i) addends[i] = load_four(from[i], count);
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; ++i) {
      if (next + i < end) add_next(sum, addends[i], next + i == first);
    }
  }
  store_four(args.out + size_t(row) * args.stride + col, sum, count);
}

/// A word a thread. Rows are of whole words and begin where a word can.
template <typename Word>
__global__ __launch_bounds__(kThreads) void take_encoded(
    const __grid_constant__ TakeEncodedArgs args) {
  begin();
  const uint32_t words = args.row_bytes / uint32_t(sizeof(Word)), word = thread_of_row();
  if (word >= words) return;
  const size_t from = size_t(args.rows[blockIdx.x]) * words + word;
  const size_t to = size_t(blockIdx.x) * words + word;
  reinterpret_cast<Word*>(args.out)[to] = reinterpret_cast<const Word*>(args.x)[from];
}

/// Where a row's work is cut into blocks along y. Of no rows and no columns there is no grid.
template <auto kKernel, typename Args, typename... More>
cudaError_t launch_rows(const Args& args, size_t blocks_of_row, uint32_t num_threads,
                        const DeviceInfo& device, cudaStream_t stream, const More&... more) {
  const dim3 grid(args.num_rows, uint32_t(blocks_of_row));
  if (grid.x == 0 || grid.y == 0) return cudaSuccess;
  return launch_kernel<kKernel>({grid, num_threads, 0, stream, can_overlap(device)}, args, more...);
}

/// Of a group.
uint32_t threads_of_norm(uint32_t width) {
  if (width <= kNarrowGroup) return 32;
  return min(kMaxBlockThreads, uint32_t(round_up(width / 4, 32)));
}

/// Four columns a thread.
template <auto kKernel, typename Args>
cudaError_t launch_columns(const Args& args, const DeviceInfo& device, cudaStream_t stream) {
  return launch_rows<kKernel>(args, divide_up(args.cols, 4 * kThreads), kThreads, device, stream);
}

template <typename Word>
bool has_words(const TakeEncodedArgs& args) {
  const auto x = reinterpret_cast<uintptr_t>(args.x), out = reinterpret_cast<uintptr_t>(args.out);
  return (args.row_bytes | x | out) % sizeof(Word) == 0;
}

template <typename Word>
cudaError_t launch_words(const TakeEncodedArgs& args, const DeviceInfo& device,
                         cudaStream_t stream) {
  const size_t words = args.row_bytes / sizeof(Word);
  return launch_rows<take_encoded<Word>>(args, divide_up(words, kThreads), kThreads, device,
                                         stream);
}

}  // namespace

cudaError_t launch_norm(const NormArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  if (args.width <= kNarrowGroup) {
    const size_t blocks = divide_up(args.num_groups, kThreads / 32);
    return launch_rows<norm_narrow>(args, blocks, kThreads, device, stream);
  }
  return launch_rows<norm_wide>(args, args.num_groups, threads_of_norm(args.width), device, stream);
}

cudaError_t launch_norm_encode(const NormEncodeArgs& args, const DeviceInfo& device,
                               cudaStream_t stream) {
  return launch_rows<norm_encode>(args, 1, threads_of_norm(args.cols), device, stream);
}

cudaError_t launch_rotate(const RotateArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  const auto fours_of_head = uint32_t(divide_up(args.half, 4));
  const size_t blocks = divide_up(size_t(args.num_heads) * fours_of_head, kThreads);
  return launch_rows<rotate>(args, blocks, kThreads, device, stream, fours_of_head);
}

cudaError_t launch_encode_rows(const EncodeRowsArgs& args, const DeviceInfo& device,
                               cudaStream_t stream) {
  return launch_columns<encode_rows>(args, device, stream);
}

cudaError_t launch_add(const AddArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  return launch_columns<add>(args, device, stream);
}

cudaError_t launch_clip(const ClipArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  return launch_columns<clip>(args, device, stream);
}

cudaError_t launch_take_rows(const TakeRowsArgs& args, const DeviceInfo& device,
                             cudaStream_t stream) {
  return launch_columns<take_rows>(args, device, stream);
}

cudaError_t launch_sum_rows(const SumRowsArgs& args, const DeviceInfo& device,
                            cudaStream_t stream) {
  return launch_columns<sum_rows>(args, device, stream);
}

cudaError_t launch_take_encoded(const TakeEncodedArgs& args, const DeviceInfo& device,
                                cudaStream_t stream) {
  if (has_words<uint4>(args)) return launch_words<uint4>(args, device, stream);
  if (has_words<uint32_t>(args)) return launch_words<uint32_t>(args, device, stream);
  return launch_words<uint16_t>(args, device, stream);
}

}  // namespace pregate::compute::cuda
