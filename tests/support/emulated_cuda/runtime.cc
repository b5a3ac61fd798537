// The CUDA runtime of cuda_runtime.h: devices of several kinds, whose memory is the host's, which
// can touch it by copies alone.
#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "base/check.h"
#include "tests/support/emulated_cuda/block.h"
#include "tests/support/emulated_cuda/matrix_units.h"
#include "tests/support/guarded_memory.h"

namespace {

using Work = std::function<cudaError_t()>;

/// Never touched, it costs nothing.
constexpr size_t kMemoryBytes = size_t{32} << 30;
constexpr size_t kAlignment = 256;  // of pinned memory
constexpr size_t kSharedBytesUnasked = size_t{48} << 10;
constexpr uint32_t kMaxThreads = 1024, kMaxBlocks = 65535;  // of a block; along y and z

struct Kind {
  int major = 0;
  size_t shared_bytes = 0;  // that a kernel may have if it asks
};
constexpr Kind kDevices[] = {{8, size_t{163} << 10}, {9, size_t{227} << 10}};
/// Few, so that some products of a test have a block for each and others have not.
constexpr int kMultiprocessors = 8;

thread_local int current_device = 0;

/// Of all devices together.
pregate::GuardedMemory& memory() {
  static pregate::GuardedMemory all;
  return all;
}

/// What kernels asked for, and what the last one that failed died of.
struct Kernels {
  std::mutex mutex;
  std::map<const void*, size_t> shared_bytes;
  std::string failure = "no kernel failed";
};

Kernels& kernels() {
  static Kernels all;
  return all;
}

bool fits(const cudaLaunchConfig_t& config, const void* kernel) {
  const std::scoped_lock lock(kernels().mutex);
  const size_t asked = kernels().shared_bytes[kernel];
  const dim3& grid = config.gridDim;
  const uint32_t threads = config.blockDim.x;
  return config.dynamicSmemBytes <= std::max(asked, kSharedBytesUnasked) && grid.x > 0 &&
         grid.y > 0 && grid.z > 0 && grid.y <= kMaxBlocks && grid.z <= kMaxBlocks && threads > 0 &&
         threads <= kMaxThreads && config.blockDim.y == 1 && config.blockDim.z == 1;
}

}  // namespace

struct EmulatedGraph {
  std::vector<Work> work;
};

struct EmulatedStream {
  std::vector<Work> pending;
  cudaGraph_t recorded = nullptr;

  cudaError_t add(Work work) {
    (recorded != nullptr ? recorded->work : pending).push_back(std::move(work));
    return cudaSuccess;
  }
};

cudaError_t cudaGetDeviceCount(int* count) {
  *count = int(std::size(kDevices));
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = {.name = "emulated",
                 .totalGlobalMem = kMemoryBytes,
                 .major = kDevices[device].major,
                 .minor = 0,
                 .multiProcessorCount = kMultiprocessors};
  return cudaSuccess;
}

cudaError_t cudaInitDevice(int, uint32_t, uint32_t) { return cudaSuccess; }

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= int(std::size(kDevices))) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return cudaSuccess; }

const char* cudaGetErrorString(cudaError_t error) {
  if (error != cudaErrorLaunchFailure) return "refused by the emulated runtime";
  static thread_local std::string text;
  const std::scoped_lock lock(kernels().mutex);
  text = kernels().failure;
  return text.c_str();
}

cudaError_t cudaMalloc(void** allocated, size_t bytes) {
  if (bytes > kMemoryBytes - memory().used_bytes()) return cudaErrorMemoryAllocation;
  *allocated = memory().allocate(bytes);
  return *allocated != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void* allocated) {
  const bool freed = allocated == nullptr || memory().free(static_cast<std::byte*>(allocated));
  return freed ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMallocHost(void** allocated, size_t bytes) {
  return posix_memalign(allocated, kAlignment, bytes) == 0 ? cudaSuccess
                                                           : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* allocated) {
  std::free(allocated);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = kMemoryBytes - memory().used_bytes();
  *total_bytes = kMemoryBytes;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, uint32_t) {
  *stream = new EmulatedStream;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const cudaError_t error = cudaStreamSynchronize(stream);
  delete stream;
  return error;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->recorded != nullptr) return cudaErrorInvalidValue;
  if (stream->pending.empty()) return cudaSuccess;
  const pregate::GuardedMemory::Access access(memory());
  cudaError_t error = cudaSuccess;
  for (const Work& work : std::exchange(stream->pending, {})) {
    if (error == cudaSuccess) error = work();
  }
  return error;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return stream->add([=] {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->recorded != nullptr) return cudaErrorInvalidValue;
  stream->recorded = new EmulatedGraph;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->recorded, nullptr);
  return *graph != nullptr ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, uint64_t) {
  *executable = new EmulatedGraph(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const Work& work : executable->work) stream->add(work);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return cudaGraphDestroy(executable);
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || size_t(value) > kDevices[current_device].shared_bytes) {
    return cudaErrorInvalidValue;
  }
  const std::scoped_lock lock(kernels().mutex);
  kernels().shared_bytes[kernel] = size_t(value);
  return cudaSuccess;
}

cudaError_t emulated_launch(const cudaLaunchConfig_t& config, const void* kernel,
                            std::function<void()> body) {
  if (!fits(config, kernel)) return cudaErrorInvalidValue;
  const dim3& grid = config.gridDim;
  pregate::emulated::Grid blocks{.num_blocks = {grid.x, grid.y, grid.z},
                                 .num_threads = config.blockDim.x,
                                 .shared_bytes = config.dynamicSmemBytes,
                                 .body = std::move(body)};
  return config.stream->add([blocks = std::move(blocks)] {
    const std::string failure = pregate::emulated::run(blocks);
    if (failure.empty()) return cudaSuccess;
    const std::scoped_lock lock(kernels().mutex);
    kernels().failure = failure;
    return cudaErrorLaunchFailure;
  });
}

int32_t __reduce_max_sync(uint32_t mask, int32_t value) {
  if (mask != 0xffffffffu) pregate::emulated::fail("a reduction of some lanes only");
  return pregate::emulated::largest(value);
}

template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int32_t lane_mask) {
  if (mask != 0xffffffffu) pregate::emulated::fail("a shuffle of some lanes only");
  return pregate::emulated::exchange(value, uint32_t(lane_mask));
}
template float __shfl_xor_sync(uint32_t, float, int32_t);
template uint64_t __shfl_xor_sync(uint32_t, uint64_t, int32_t);

uint32_t __shfl_up_sync(uint32_t mask, uint32_t value, uint32_t steps) {
  if (mask != 0xffffffffu) pregate::emulated::fail("a shuffle of some lanes only");
  return pregate::emulated::shift(value, steps);
}
