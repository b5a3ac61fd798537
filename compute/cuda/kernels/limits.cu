// What the device could do at best: loops that only read memory, or only multiply.
#include <algorithm>
#include <vector>

#include "compute/cuda/kernels.h"
#include "compute/cuda/kernels/descriptor.cuh"
#include "compute/cuda/kernels/gemm.cuh"
#include "compute/cuda/kernels/ptx.cuh"
#include "compute/cuda/kernels/wgmma.cuh"

namespace pregate::compute::cuda {
namespace {

constexpr uint32_t kReadThreads = 512;
constexpr uint32_t kReadsAtOnce = 8;
constexpr uint32_t kPeakThreads = 256;
constexpr uint32_t kPeakSteps = 4096;
constexpr uint32_t kPeakBytes =
    (2 * 128 + 128) * 128;  // a tile of each warpgroup, and one for both
constexpr int kRepeats = 7;

/// Something else in every number, as products of zeros take less power.
__global__ void fill(uint32_t* memory, size_t count) {
  const size_t stride = size_t(gridDim.x) * blockDim.x;
  for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    uint32_t x = uint32_t(i) * 2654435761u + 12345u;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    memory[i] = (x & 0x807f807fu) | 0x3f003f00u;  // two bf16 of magnitude 0.5 to 1
  }
}

__global__ __launch_bounds__(kReadThreads) void read(const uint4* memory, size_t count,
                                                     uint32_t* out) {
  const size_t stride = size_t(gridDim.x) * kReadThreads;
  uint32_t sum = 0;
  for (size_t i = size_t(blockIdx.x) * kReadThreads + threadIdx.x; i < count;
       i += kReadsAtOnce * stride) {
    uint4 values[kReadsAtOnce];
#pragma unroll
    for (uint32_t k = 0; k < kReadsAtOnce; ++k) {
      values[k] = i + k * stride < count ? __ldcs(memory + i + k * stride) : uint4{};
    }
#pragma unroll
    for (const uint4& value : values) sum += value.x ^ value.y ^ value.z ^ value.w;
  }
  if (sum == 1) *out = sum;  // hardly ever: only so that the reads are not left out
}

/// Two warpgroups that multiply what lies in shared memory, again and again.
__global__ __launch_bounds__(kPeakThreads) void multiply(const uint4* numbers, float* out) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  uint8_t* const memory = dynamic_shared_memory();
  for (uint32_t at = threadIdx.x; at < kPeakBytes / 16; at += kPeakThreads) {
    reinterpret_cast<uint4*>(memory)[at] = numbers[at];
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint32_t own = shared_address(memory) + threadIdx.x / 128 * 128 * 128;
  const uint64_t a_low = matrix_descriptor(own), a_high = matrix_descriptor(own + 64 * 128);
  const uint64_t b = matrix_descriptor(shared_address(memory) + 2 * 128 * 128);
  float low[64] = {}, high[64] = {};
  for (uint32_t step = 0; step < kPeakSteps; step += 4) {
    begin_products();
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {
      Wgmma<128>::add(low, a_low + 2 * k, b + 2 * k);
      Wgmma<128>::add(high, a_high + 2 * k, b + 2 * k);
    }
    commit_products();
    wait_for_products<1>();
  }
  wait_for_products<0>();
  float sum = 0.0f;
  for (uint32_t i = 0; i < 64; ++i) sum += low[i] + high[i];
#else
  uint32_t a[4], b[2];
  for (uint32_t i = 0; i < 4; ++i)
    a[i] = reinterpret_cast<const uint32_t*>(numbers)[threadIdx.x + i];
  for (uint32_t i = 0; i < 2; ++i) b[i] = reinterpret_cast<const uint32_t*>(numbers)[i];
  float sums[8][4] = {};
  for (uint32_t step = 0; step < kPeakSteps; ++step) {
#pragma unroll
    for (uint32_t k = 0; k < 8; ++k) multiply_bf16(sums[k], a, b[0], b[1]);
  }
  float sum = 0.0f;
  for (const auto& four : sums) sum += four[0] + four[1] + four[2] + four[3];
#endif
  if (sum == 1.0f) *out = sum;
}

/// Operations of one launch of multiply().
double operations(const DeviceInfo& device, uint32_t num_blocks) {
  const double of_warpgroup = 2.0 * 128 * 128 * 16 * kPeakSteps;
  const double of_warp = 2.0 * 16 * 8 * 16 * 8 * kPeakSteps;
  return num_blocks * (is_hopper(device) ? 2 * of_warpgroup : kPeakThreads / 32 * of_warp);
}

/// Seconds of the median run.
template <typename Run>
cudaError_t time(cudaStream_t stream, double& seconds, Run run) {
  cudaEvent_t begin, end;
  if (const cudaError_t error = cudaEventCreate(&begin)) return error;
  if (const cudaError_t error = cudaEventCreate(&end)) return error;
  std::vector<float> milliseconds(kRepeats);
  cudaError_t error = run();  // once without a clock
  for (float& each : milliseconds) {
    if (error == cudaSuccess) error = cudaEventRecord(begin, stream);
    if (error == cudaSuccess) error = run();
    if (error == cudaSuccess) error = cudaEventRecord(end, stream);
    if (error == cudaSuccess) error = cudaEventSynchronize(end);
    if (error == cudaSuccess) error = cudaEventElapsedTime(&each, begin, end);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::ranges::sort(milliseconds);
  seconds = milliseconds[kRepeats / 2] / 1000.0;
  return error;
}

}  // namespace

cudaError_t measure_limits(std::byte* memory, size_t bytes, const DeviceInfo& device,
                           cudaStream_t stream, DeviceLimits& limits) {
  const auto num_blocks = uint32_t(4 * device.num_multiprocessors);
  const auto peak_blocks = uint32_t(device.num_multiprocessors * (is_hopper(device) ? 1 : 4));
  fill<<<num_blocks, kReadThreads, 0, stream>>>(reinterpret_cast<uint32_t*>(memory), bytes / 4);
  double seconds = 0.0;
  if (const cudaError_t error = time(stream, seconds, [&] {
        read<<<num_blocks, kReadThreads, 0, stream>>>(reinterpret_cast<uint4*>(memory), bytes / 16,
                                                      reinterpret_cast<uint32_t*>(memory));
        return cudaGetLastError();
      })) {
    return error;
  }
  limits.read_bytes_per_s = double(bytes) / seconds;
  const cudaError_t error = time(stream, seconds, [&] {
    return launch_kernel<multiply>({dim3(peak_blocks), kPeakThreads, kPeakBytes, stream, false},
                                   reinterpret_cast<const uint4*>(memory),
                                   reinterpret_cast<float*>(memory));
  });
  limits.bf16_flops = operations(device, peak_blocks) / seconds;
  return error;
}

}  // namespace pregate::compute::cuda
