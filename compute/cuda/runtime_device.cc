#include "compute/cuda/runtime_device.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <cuda_runtime.h>

#include "base/bytes.h"
#include "compute/cuda/kernels.h"

namespace pregate::compute::cuda {
namespace {

/// What Device::allocate() promises, and what cudaMalloc() does.
constexpr size_t kAlignment = 1024;
constexpr size_t kRuntimeAlignment = 256;
/// Many times what the caches hold.
constexpr size_t kMeasuredBytes = size_t{2} << 30;
/// A kernel reads host memory slower than the copy engine does, but starts 8 us sooner.
constexpr size_t kLargestFetch = size_t{256} << 10;
/// To fall asleep and to wake takes a thread some 60 us, of a step that decodes for a few
/// milliseconds; longer waits must not keep a core busy.
constexpr auto kSpin = std::chrono::milliseconds(10);

std::string version_name(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string name_of(int index) { return fmt::format("cuda:{}", index); }

tl::unexpected<Error> lost(int index, cudaError_t error) {
  return fail(ErrorCode::kUnavailable, "{}: device lost: {}", name_of(index),
              cudaGetErrorString(error));
}

/// For what allocating said, with what is free of the device's memory.
tl::unexpected<Error> no_memory(int index, size_t bytes, cudaError_t error) {
  if (error != cudaErrorMemoryAllocation) return lost(index, error);
  cudaGetLastError();  // It is told; the next call must not find it.
  size_t free = 0, total = 0;
  if (const cudaError_t asked = cudaMemGetInfo(&free, &total)) return lost(index, asked);
  return fail(ErrorCode::kResourceExhausted,
              "{}: no device memory for {}: {} of the device's {} is free", name_of(index),
              describe_bytes(bytes), describe_bytes(free), describe_bytes(total));
}

/// The host's, of which the driver does not say how much it still pins.
tl::unexpected<Error> no_pinned_memory(int index, size_t bytes, cudaError_t error) {
  if (error != cudaErrorMemoryAllocation) return lost(index, error);
  cudaGetLastError();
  return fail(ErrorCode::kResourceExhausted, "{}: no pinned host memory for {}", name_of(index),
              describe_bytes(bytes));
}

Result<DeviceInfo> describe(int index) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index)) {
    return lost(index, error);
  }
  return DeviceInfo{.name = properties.name,
                    .major = properties.major,
                    .minor = properties.minor,
                    .memory_bytes = properties.totalGlobalMem,
                    .free_bytes = 0,
                    .num_multiprocessors = static_cast<size_t>(properties.multiProcessorCount)};
}

/// Why there are no devices to list.
tl::unexpected<Error> no_driver(cudaError_t error) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return fail(ErrorCode::kUnimplemented,
                "no CUDA driver: libcuda.so.1, a part of the NVIDIA driver, was not found");
  }
  if (error == cudaErrorInsufficientDriver) {
    return fail(ErrorCode::kUnimplemented,
                "the driver is for CUDA {}, and this build needs {} or newer", version_name(driver),
                version_name(CUDART_VERSION / 1000 * 1000));
  }
  return fail(ErrorCode::kUnimplemented, "the CUDA driver ({}) cannot be used: {}",
              version_name(driver), cudaGetErrorString(error));
}

struct Graph final : Recording {
  explicit Graph(cudaGraphExec_t made) : exec(made) {}
  ~Graph() override { cudaGraphExecDestroy(exec); }
  const cudaGraphExec_t exec;
};

/// Small uploads, which wait for one another: a step begins with several, and launching a kernel
/// takes the host longer than it takes the kernel.
struct Fetches {
  FetchArgs args;

  /// Whether it may go with the others: there is room, and the order means nothing.
  bool can_take(const FetchArgs::Piece& next) const {
    if (args.num_pieces == FetchArgs::kMaxPieces) return false;
    return std::none_of(args.pieces, args.pieces + args.num_pieces, [&](const auto& piece) {
      return next.to < piece.to + piece.bytes && piece.to < next.to + next.bytes;
    });
  }
};

class RuntimeStream final : public Stream {
 public:
  RuntimeStream(int index, const DeviceInfo& info, cudaStream_t stream)
      : index_(index), info_(info), stream_(stream) {}
  ~RuntimeStream() override {
    if (cudaSetDevice(index_) == cudaSuccess) cudaStreamDestroy(stream_);
  }

  void upload(void* to, const void* from, size_t bytes) override {
    then([&] { return cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_); });
  }
  void upload_pinned(void* to, const void* from, size_t bytes) override {
    if (bytes > kLargestFetch) return upload(to, from, bytes);
    const FetchArgs::Piece next{static_cast<std::byte*>(to), static_cast<const std::byte*>(from),
                                uint32_t(bytes)};
    if (!fetches_.can_take(next)) send_fetches();
    fetches_.args.pieces[fetches_.args.num_pieces++] = next;
  }
  void download(void* to, const void* from, size_t bytes) override {
    then([&] { return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_); });
  }
  void gather(const GatherArgs& args) override {
    then([&] { return launch_gather(args, info_, stream_); });
  }
  void gemm(const GemmArgs& args) override {
    then([&] { return launch_gemm(args, info_, stream_); });
  }
  void encode(const EncodeArgs& args) override {
    then([&] { return launch_encode(args, info_, stream_); });
  }
  void combine(const CombineArgs& args) override {
    then([&] { return launch_combine(args, info_, stream_); });
  }
  void place_heads(const PlaceHeadsArgs& args) override {
    then([&] { return launch_place_heads(args, info_, stream_); });
  }
  void attention(const AttentionArgs& args) override {
    then([&] { return launch_attention(args, info_, stream_); });
  }
  void norm(const NormArgs& args) override {
    then([&] { return launch_norm(args, info_, stream_); });
  }
  void encode_rows(const EncodeRowsArgs& args) override {
    then([&] { return launch_encode_rows(args, info_, stream_); });
  }
  void add(const AddArgs& args) override {
    then([&] { return launch_add(args, info_, stream_); });
  }
  void take_rows(const TakeRowsArgs& args) override {
    then([&] { return launch_take_rows(args, info_, stream_); });
  }
  void sum_rows(const SumRowsArgs& args) override {
    then([&] { return launch_sum_rows(args, info_, stream_); });
  }
  void take_encoded(const TakeEncodedArgs& args) override {
    then([&] { return launch_take_encoded(args, info_, stream_); });
  }
  void choose_top_k(const TopKArgs& args) override {
    then([&] { return launch_choose_top_k(args, info_, stream_); });
  }
  void route(const RouteArgs& args) override {
    then([&] { return launch_route(args, info_, stream_); });
  }
  void find_largest(const LargestArgs& args) override {
    then([&] { return launch_find_largest(args, info_, stream_); });
  }
  void draw(const DrawArgs& args) override {
    then([&] { return launch_draw(args, info_, stream_); });
  }
  void change_logits(const ChangeLogitsArgs& args) override {
    then([&] { return launch_change_logits(args, info_, stream_); });
  }
  Status synchronize() override {
    then([&] { return wait(); });
    if (error_ != cudaSuccess) return lost(index_, error_);
    return {};
  }

  Result<std::unique_ptr<Recording>> record(const std::function<void()>& work) override {
    then([&] { return cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal); });
    const bool begun = error_ == cudaSuccess;
    work();
    send_fetches();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    if (begun) {  // Also if `work` failed: a stream must not stay half recorded.
      const cudaError_t ended = cudaStreamEndCapture(stream_, &graph);
      if (error_ == cudaSuccess) error_ = ended;
    }
    then([&] { return cudaGraphInstantiate(&exec, graph, 0); });
    if (graph != nullptr) cudaGraphDestroy(graph);
    if (error_ != cudaSuccess) return lost(index_, error_);
    return std::make_unique<Graph>(exec);
  }
  void replay(const Recording& recording) override {
    then([&] { return cudaGraphLaunch(static_cast<const Graph&>(recording).exec, stream_); });
  }

 private:
  /// The first error stays: what was to come after it would read what is not there.
  template <typename Work>
  void then(const Work& work) {
    send_fetches();
    do_now(work);
  }
  template <typename Work>
  void do_now(const Work& work) {
    if (error_ == cudaSuccess) error_ = cudaSetDevice(index_);
    if (error_ == cudaSuccess) error_ = work();
  }

  /// Before anything else is done.
  void send_fetches() {
    if (fetches_.args.num_pieces == 0) return;
    do_now([&] { return launch_fetch(fetches_.args, stream_); });
    fetches_.args = {};
  }

  cudaError_t wait() const {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
      const cudaError_t state = cudaStreamQuery(stream_);
      if (state != cudaErrorNotReady) return state;
    } while (std::chrono::steady_clock::now() < end);
    return cudaStreamSynchronize(stream_);
  }

  const int index_;
  const DeviceInfo info_;
  const cudaStream_t stream_;
  cudaError_t error_ = cudaSuccess;
  Fetches fetches_;
};

/// The device's primary context, which all of this process share. Calls come from many threads, and
/// each has its own idea of what is the current device.
class RuntimeDevice final : public Device {
 public:
  RuntimeDevice(int index, DeviceInfo info) : index_(index), info_(std::move(info)) {}

  DeviceInfo info() const override {
    DeviceInfo info = info_;
    size_t total = 0;
    if (cudaSetDevice(index_) != cudaSuccess ||
        cudaMemGetInfo(&info.free_bytes, &total) != cudaSuccess) {
      info.free_bytes = 0;
    }
    return info;
  }

  Result<std::byte*> allocate(size_t bytes) override {
    void* memory = nullptr;
    cudaError_t error = cudaSetDevice(index_);
    if (error == cudaSuccess) error = cudaMalloc(&memory, bytes + kAlignment - kRuntimeAlignment);
    if (error != cudaSuccess) return no_memory(index_, bytes, error);
    const auto address = reinterpret_cast<uintptr_t>(memory);
    const size_t skipped = (kAlignment - address % kAlignment) % kAlignment;
    std::byte* const aligned = static_cast<std::byte*>(memory) + skipped;
    const std::scoped_lock lock(mutex_);
    allocations_.emplace(aligned, memory);
    return aligned;
  }

  void free(std::byte* memory) override {
    if (memory == nullptr) return;
    void* allocated = nullptr;
    {
      const std::scoped_lock lock(mutex_);
      allocated = allocations_.extract(memory).mapped();
    }
    if (cudaSetDevice(index_) == cudaSuccess) cudaFree(allocated);
  }

  Result<std::byte*> allocate_pinned(size_t bytes) override {
    void* memory = nullptr;
    cudaError_t error = cudaSetDevice(index_);
    if (error == cudaSuccess) error = cudaMallocHost(&memory, bytes);
    if (error != cudaSuccess) return no_pinned_memory(index_, bytes, error);
    return static_cast<std::byte*>(memory);
  }

  void free_pinned(std::byte* memory) override {
    if (cudaSetDevice(index_) == cudaSuccess) cudaFreeHost(memory);
  }

  Result<std::unique_ptr<Stream>> make_stream() override {
    cudaStream_t stream = nullptr;
    cudaError_t error = cudaSetDevice(index_);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (error != cudaSuccess) return lost(index_, error);
    return std::make_unique<RuntimeStream>(index_, info_, stream);
  }

  Result<DeviceLimits> measure_limits() override {
    PREGATE_ASSIGN(std::byte* const memory, allocate(kMeasuredBytes));
    DeviceLimits limits;
    const cudaError_t error =
        cuda::measure_limits(memory, kMeasuredBytes, info_, cudaStreamPerThread, limits);
    free(memory);
    if (error != cudaSuccess) return lost(index_, error);
    return limits;
  }

 private:
  const int index_;
  const DeviceInfo info_;
  std::mutex mutex_;
  std::unordered_map<std::byte*, void*> allocations_;  // as given out: as the runtime gave it
};

}  // namespace

Result<std::vector<DeviceInfo>> list_runtime_devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess && error != cudaErrorNoDevice) return no_driver(error);
  std::vector<DeviceInfo> devices;
  for (int index = 0; index < count; ++index) {
    PREGATE_ASSIGN(devices.emplace_back(), describe(index));
  }
  return devices;
}

Result<std::unique_ptr<Device>> open_runtime_device(size_t index) {
  const int device = static_cast<int>(index);
  PREGATE_ASSIGN(DeviceInfo info, describe(device));
  // See RuntimeStream::wait(). Where somebody made the context before, waiting is as it was.
  if (cudaInitDevice(device, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid)) {
    cudaGetLastError();
  }
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaFree(nullptr);  // Makes the context, or says why not.
  if (error != cudaSuccess) {
    return fail(ErrorCode::kUnavailable, "{}: {} cannot be used: {}", name_of(device), info.name,
                cudaGetErrorString(error));
  }
  return std::make_unique<RuntimeDevice>(device, std::move(info));
}

}  // namespace pregate::compute::cuda
