// What is done to rows in f32 between the products. Rows are so few when a model decodes that
// starting the kernels takes most of the time: each begins while the one before it still works, and
// has threads enough to be done in one go.
#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/activation.cuh"
#include "compute/cuda/kernels/encode.cuh"
#include "compute/cuda/kernels/four.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/norm.cuh"
#include "compute/cuda/kernels/ptx.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kThreads = 128;

/// Nothing before it may be touched.
__device__ __forceinline__ void begin() {
  let_next_kernel_start();
  wait_for_kernels_before();
}

__device__ __forceinline__ uint32_t thread_of_row() { return blockIdx.y * kThreads + threadIdx.x; }

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

/// A group of a row, by a block.
class NormedGroup {
 public:
  __device__ __forceinline__ NormedGroup(const NormArgs& args)
      : args_(args), x_(args.x + at(args.x_stride)), y_(args.y + at(args.y_stride)) {}

  __device__ __forceinline__ void prefetch_weight() const {
    thread_.prefetch_weight(args_.weight, args_.width);
  }

  /// Of the thread's part of x, to which the addend has been added.
  __device__ __forceinline__ float sum_squares() const {
    return thread_.sum_squares(args_.width, [&](uint32_t col) { return load(col); });
  }

  /// Each thread writes where it alone has read: x and y may be the same.
  __device__ __forceinline__ void write(float total) const {
    const float scale = norm_scale(total, args_.width, args_.epsilon);
    const float* const from = args_.addend == nullptr ? x_ : sum();
    const uint32_t end = args_.out == nullptr ? args_.width : round_up(args_.width, kQ8Group);
    for (uint32_t col = 4 * thread_.index; col < end; col += 4 * thread_.count) {
      const uint32_t count = col < args_.width ? args_.width - col : 0;
      Four four = load_four(from + col, count);
      const Four weight = load_four(args_.weight + col, count);
      for (uint32_t i = 0; i < 4; ++i) four.x[i] = four.x[i] * scale * weight.x[i];
      store_four(y_ + col, four, count);
      if (args_.out != nullptr) encode(col / 4, four, count);
    }
  }

 private:
  __device__ __forceinline__ size_t at(uint32_t stride) const {
    return size_t(blockIdx.x) * stride + size_t(blockIdx.y) * args_.width;
  }

  __device__ __forceinline__ float* sum() const { return args_.sum + at(args_.x_stride); }

  __device__ __forceinline__ Four load(uint32_t col) const {
    const uint32_t count = args_.width - col;
    Four four = load_four(x_ + col, count);
    if (args_.addend == nullptr) return four;
    const Four added = load_four(args_.addend + at(args_.addend_stride) + col, count);
    for (uint32_t i = 0; i < 4; ++i) four.x[i] += added.x[i];
    store_four(sum() + col, four, count);
    return four;
  }

  __device__ __forceinline__ void encode(uint32_t four, const Four& numbers, uint32_t count) const {
    std::byte* const row = args_.out + blockIdx.x * encoded_row_bytes(args_.format, args_.width);
    store_encoded(args_.format, row, args_.width, four, numbers, count);
  }

  const NormArgs& args_;
  const NormThread thread_{threadIdx.x, blockDim.x};
  const float* const x_;
  float* const y_;
};

__global__ __launch_bounds__(kMaxBlockThreads) void norm(const __grid_constant__ NormArgs args) {
  let_next_kernel_start();
  const NormedGroup group(args);
  group.prefetch_weight();
  wait_for_kernels_before();
  group.write(sum_of_block(group.sum_squares()));
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
template <auto kKernel, typename Args>
cudaError_t launch_rows(const Args& args, size_t blocks_of_row, uint32_t num_threads,
                        const DeviceInfo& device, cudaStream_t stream) {
  const dim3 grid(args.num_rows, uint32_t(blocks_of_row));
  if (grid.x == 0 || grid.y == 0) return cudaSuccess;
  return launch_kernel<kKernel>({grid, num_threads, 0, stream, can_overlap(device)}, args);
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
  return launch_rows<norm>(args, args.num_groups, threads_of_norm(args.width), device, stream);
}

cudaError_t launch_encode_rows(const EncodeRowsArgs& args, const DeviceInfo& device,
                               cudaStream_t stream) {
  return launch_columns<encode_rows>(args, device, stream);
}

cudaError_t launch_add(const AddArgs& args, const DeviceInfo& device, cudaStream_t stream) {
  return launch_columns<add>(args, device, stream);
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
