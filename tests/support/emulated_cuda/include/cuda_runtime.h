// In place of CUDA's header of this name, where the project's kernels are compiled for the
// processor: as much of the language and of the runtime as they and their launches need. Threads,
// warps and shared memory: block.h; the runtime: runtime.cc.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

#include "tests/support/emulated_cuda/block.h"

// The language. A block's threads take turns, and so do blocks: one place for all is enough.

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
/// Variables lie together, so that they can be overwritten before a block begins.
#define __shared__ static __attribute__((section("emulated_shared")))

inline constexpr const pregate::emulated::Index& threadIdx = pregate::emulated::thread_index;
inline constexpr const pregate::emulated::Index& blockIdx = pregate::emulated::block_index;
inline constexpr const pregate::emulated::Index& gridDim = pregate::emulated::block_count;
inline constexpr const pregate::emulated::Index& blockDim = pregate::emulated::thread_count;

inline void __syncthreads() { pregate::emulated::wait_for_block(); }

struct dim3 {
  uint32_t x, y, z;
  constexpr dim3(uint32_t x_count = 1, uint32_t y_count = 1, uint32_t z_count = 1)
      : x(x_count), y(y_count), z(z_count) {}
};

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
constexpr float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

constexpr uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
constexpr uint32_t max(uint32_t a, uint32_t b) { return a < b ? b : a; }
constexpr int32_t max(int32_t a, int32_t b) { return a < b ? b : a; }

constexpr int32_t __float_as_int(float x) { return std::bit_cast<int32_t>(x); }
constexpr float __int_as_float(int32_t x) { return std::bit_cast<float>(x); }
constexpr uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
constexpr float __uint_as_float(uint32_t x) { return std::bit_cast<float>(x); }
constexpr float __fadd_rn(float a, float b) { return a + b; }
constexpr float __fsub_rn(float a, float b) { return a - b; }
constexpr float __fmul_rn(float a, float b) { return a * b; }
/// Byte i of the result is the one of a's four and b's four that hexadecimal digit i of `selector`
/// says.
constexpr uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    result |= uint32_t(bytes >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  }
  return result;
}
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }

// Threads of a block take turns, and so do blocks.
inline uint32_t atomicAdd(uint32_t* sum, uint32_t value) { return (*sum += value) - value; }
inline unsigned long long atomicAdd(unsigned long long* sum, unsigned long long value) {
  return (*sum += value) - value;
}
inline void __threadfence() {}

/// `mask` must be all lanes.
int32_t __reduce_max_sync(uint32_t mask, int32_t value);
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int32_t lane_mask);
uint32_t __shfl_up_sync(uint32_t mask, uint32_t value, uint32_t steps);

// The runtime.

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
inline constexpr int cudaSharedmemCarveoutMaxShared = 100;
inline constexpr uint32_t cudaStreamNonBlocking = 1;
inline constexpr uint32_t cudaDeviceScheduleBlockingSync = 4;
inline constexpr uint32_t cudaInitDeviceFlagsAreValid = 1;
#define CUDART_VERSION 12000

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};

struct EmulatedStream;
struct EmulatedGraph;
using cudaStream_t = EmulatedStream*;
using cudaGraph_t = EmulatedGraph*;
using cudaGraphExec_t = EmulatedGraph*;
inline constexpr cudaStream_t cudaStreamPerThread = nullptr;

struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaInitDevice(int device, uint32_t device_flags, uint32_t flags);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaGetLastError();
/// Of a kernel that failed: what was wrong with the last one.
const char* cudaGetErrorString(cudaError_t error);

cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);

// What a stream is given is done when it is waited for or asked, not before.
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, uint32_t flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, uint64_t flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t emulated_launch(const cudaLaunchConfig_t& config, const void* kernel,
                            std::function<void()> body);

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  return emulated_launch(
      *config, reinterpret_cast<const void*>(kernel),
      [kernel, values = std::tuple<Parameters...>(arguments...)] { std::apply(kernel, values); });
}
