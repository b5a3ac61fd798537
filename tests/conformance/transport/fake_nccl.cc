#include "tests/conformance/transport/fake_nccl.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "base/random.h"
#include "tests/support/device_memories.h"
#include "transport/payload.h"

// Not anonymous: what NCCL and CUDA name is made of it.
namespace pregate::transport::fake {

[[noreturn]] static void refuse(const char* why) {
  std::fprintf(stderr, "fake NCCL: %s\n", why);
  std::abort();
}

/// Ranges of memory of one kind.
class Memory {
 public:
  void* allocate(size_t bytes) {
    const size_t lines = (bytes + kPayloadAlignment - 1) / kPayloadAlignment;
    void* const memory = std::aligned_alloc(kPayloadAlignment, lines * kPayloadAlignment);
    std::memset(memory, 0xA5, bytes);
    const std::lock_guard lock(mutex_);
    sizes_[static_cast<std::byte*>(memory)] = bytes;
    return memory;
  }
  void free(void* memory) {
    const std::lock_guard lock(mutex_);
    if (sizes_.erase(static_cast<std::byte*>(memory)) == 0) refuse("freed what it did not give");
    std::free(memory);
  }
  /// The allocation that these bytes are in, or null.
  const std::byte* find(const void* from, size_t bytes) const {
    const auto* const first = static_cast<const std::byte*>(from);
    const std::lock_guard lock(mutex_);
    auto range = sizes_.upper_bound(const_cast<std::byte*>(first));
    if (range == sizes_.begin()) return nullptr;
    --range;
    return first + bytes <= range->first + range->second ? range->first : nullptr;
  }
  bool has(const void* from, size_t bytes) const { return find(from, bytes) != nullptr; }
  size_t count() const {
    const std::lock_guard lock(mutex_);
    return sizes_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::byte*, size_t> sizes_;  // guarded by mutex_
};

/// Allocations that NCCL was given and is not done with.
class Uses {
 public:
  uint64_t add(const ncclComm* comm, const std::byte* allocation) {
    const std::lock_guard lock(mutex_);
    uses_[++last_] = {comm, allocation};
    return last_;
  }
  void end(uint64_t use) {
    const std::lock_guard lock(mutex_);
    uses_.erase(use);
  }
  void end_all(const ncclComm* comm) {
    const std::lock_guard lock(mutex_);
    std::erase_if(uses_, [&](const auto& use) { return use.second.first == comm; });
  }
  bool contain(const void* allocation) const {
    const std::lock_guard lock(mutex_);
    return std::ranges::any_of(uses_,
                               [&](const auto& use) { return use.second.second == allocation; });
  }

 private:
  mutable std::mutex mutex_;
  std::map<uint64_t, std::pair<const ncclComm*, const std::byte*>> uses_;  // guarded by mutex_
  uint64_t last_ = 0;                                                      // guarded by mutex_
};

struct World {
  FakeNccl fake;
  Memory device, pinned;
  Uses uses;
  std::atomic<size_t> num_streams{0}, num_comms{0};
  std::atomic<uint64_t> num_transfers{0};
};

static World& world() {
  static World the_world;
  return the_world;
}

static void free_device(void* memory) {
  if (world().uses.contain(memory)) refuse("device memory is freed in which NCCL is at work");
  world().device.free(memory);
}

class FakeDeviceMemory final : public DeviceMemory {
 public:
  explicit FakeDeviceMemory(size_t max_bytes) : max_bytes_(max_bytes) {}

  Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) override {
    if ((*used_bytes_ += bytes) > max_bytes_) {
      *used_bytes_ -= bytes;
      return fail(ErrorCode::kResourceExhausted, "no room for {} bytes", bytes);
    }
    return std::shared_ptr<std::byte[]>(static_cast<std::byte*>(world().device.allocate(bytes)),
                                        [bytes, used = used_bytes_](std::byte* memory) {
                                          free_device(memory);
                                          *used -= bytes;
                                        });
  }
  Status read(std::span<std::byte> to, const std::byte* from) override {
    if (!world().device.has(from, to.size())) refuse("read outside device memory");
    copy_scrambled(to.data(), from, to.size());
    return {};
  }
  Status write(std::byte* to, std::span<const std::byte> from) override {
    if (!world().device.has(to, from.size())) refuse("written outside device memory");
    copy_scrambled(to, from.data(), from.size());
    return {};
  }

 private:
  const size_t max_bytes_;
  const std::shared_ptr<std::atomic<size_t>> used_bytes_ = std::make_shared<std::atomic<size_t>>(0);
};

struct Post {
  const void* from = nullptr;
  size_t bytes = 0;
  bool taken = false;
  bool is_garbage = false;  // who sent it gave up
};

/// What the ranks of one communicator share.
struct Group {
  std::mutex mutex;
  std::condition_variable changed;
  int num_joined = 0;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Post>>> posts;  // by sender, receiver
};

static std::shared_ptr<Group> group_of(const ncclUniqueId& id) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Group>> groups;
  const std::lock_guard lock(mutex);
  auto& known = groups[std::string(id.internal, sizeof(id.internal))];
  auto group = known.lock();
  if (!group) known = group = std::make_shared<Group>();
  return group;
}

/// Set by cudaEventRecord() once the stream comes to it; each record is another moment.
struct Moment {
  std::mutex mutex;
  std::condition_variable reached;
  bool is_reached = true;
};

struct Transfer {
  bool is_send = false;
  int peer = 0;
  void* memory = nullptr;
  size_t bytes = 0;
  uint64_t use = 0;
};

}  // namespace pregate::transport::fake

using namespace pregate::transport::fake;

struct CUstream_st {
  CUstream_st() : thread([this] { run(); }) { ++world().num_streams; }
  ~CUstream_st() {
    {
      const std::lock_guard lock(mutex);
      ended = true;
    }
    changed.notify_all();
    thread.join();
    --world().num_streams;
  }

  void add(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex);
      tasks.push_back(std::move(task));
    }
    changed.notify_all();
  }

 private:
  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return ended || !tasks.empty(); });
      if (tasks.empty()) return;
      const auto task = std::move(tasks.front());
      tasks.pop_front();
      lock.unlock();
      if (world().fake.delay.count() > 0) std::this_thread::sleep_for(world().fake.delay);
      task();
      lock.lock();
    }
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> tasks;  // all guarded by mutex
  bool ended = false;
  std::thread thread;
};

struct CUevent_st {
  std::shared_ptr<Moment> moment = std::make_shared<Moment>();
};

struct ncclComm {
  std::shared_ptr<Group> group;
  int rank = 0, num_ranks = 0;
  std::atomic<bool> failed{false}, aborted{false};
};

namespace {

/// Of this thread, between ncclGroupStart() and ncclGroupEnd().
thread_local bool in_group = false;
thread_local std::vector<Transfer> grouped;
thread_local ncclComm* grouped_comm = nullptr;
thread_local cudaStream_t grouped_stream = nullptr;

void take_post(ncclComm& comm, std::unique_lock<std::mutex>& lock, const Transfer& transfer) {
  Group& group = *comm.group;
  auto& posts = group.posts[{transfer.peer, comm.rank}];
  group.changed.wait(lock, [&] { return comm.aborted || !posts.empty(); });
  if (comm.aborted) return;
  const auto post = posts.front();
  posts.pop_front();
  if (post->bytes != transfer.bytes) refuse("a send and a receive of different sizes");
  if (!post->is_garbage) std::memcpy(transfer.memory, post->from, post->bytes);
  if (world().fake.is_corrupt) static_cast<std::byte*>(transfer.memory)[7] ^= std::byte{1};
  post->taken = true;
  group.changed.notify_all();
}

/// As one kernel does it: nothing waits for what comes after it in the list.
void transfer_all(ncclComm& comm, const std::vector<Transfer>& transfers) {
  Group& group = *comm.group;
  std::unique_lock lock(group.mutex);
  std::vector<std::shared_ptr<Post>> posted;
  for (const Transfer& transfer : transfers) {
    if (!transfer.is_send) continue;
    // What a communicator that was given up comes to later is not to be read: its memory is free.
    posted.push_back(std::make_shared<Post>(
        Post{.from = transfer.memory, .bytes = transfer.bytes, .is_garbage = comm.aborted}));
    group.posts[{comm.rank, transfer.peer}].push_back(posted.back());
  }
  group.changed.notify_all();
  for (const Transfer& transfer : transfers) {
    if (!transfer.is_send) take_post(comm, lock, transfer);
  }
  for (const auto& post : posted) {
    group.changed.wait(lock, [&] { return comm.aborted || post->taken; });
  }
  for (const Transfer& transfer : transfers) world().uses.end(transfer.use);
}

ncclResult_t add(ncclComm* comm, Transfer transfer, cudaStream_t stream) {
  if (!world().device.has(transfer.memory, transfer.bytes)) refuse("not device memory");
  if (transfer.peer >= comm->num_ranks) return ncclInvalidArgument;
  if (world().fake.failures > 0) {
    pregate::Random random(world().num_transfers++);
    if (random.next_below(1000) < world().fake.failures) comm->failed = true;
  }
  if (comm->failed) return ncclInProgress;  // as a communicator that does not block tells of it
  transfer.use = world().uses.add(comm, world().device.find(transfer.memory, transfer.bytes));
  if (in_group) {
    grouped.push_back(transfer);
    grouped_comm = comm;
    grouped_stream = stream;
  } else {
    stream->add([comm, transfer] { transfer_all(*comm, {transfer}); });
  }
  return ncclSuccess;
}

cudaError_t refuse_copy(const void* pinned, const void* device, size_t bytes) {
  if (!world().pinned.has(pinned, bytes)) refuse("a copy of memory that is not pinned");
  if (!world().device.has(device, bytes)) refuse("a copy outside device memory");
  return cudaSuccess;
}

}  // namespace

namespace pregate::transport {

void set_fake_nccl(const FakeNccl& fake) { world().fake = fake; }

std::shared_ptr<DeviceMemory> fake_device_memory(size_t max_bytes) {
  return std::make_shared<FakeDeviceMemory>(max_bytes);
}

size_t num_fake_leaks() {
  return world().device.count() + world().pinned.count() + world().num_streams + world().num_comms;
}

}  // namespace pregate::transport

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = world().fake.num_devices;
  return world().fake.has_driver ? cudaSuccess : cudaErrorInsufficientDriver;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInsufficientDriver ? "CUDA driver version is insufficient" : "an error";
}
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = world().device.allocate(bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  free_device(memory);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned int) {
  *memory = world().pinned.allocate(bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  world().pinned.free(memory);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const auto moment = event->moment = std::make_shared<Moment>();
  moment->is_reached = false;
  stream->add([moment] {
    {
      const std::lock_guard lock(moment->mutex);
      moment->is_reached = true;
    }
    moment->reached.notify_all();
  });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(event->moment->mutex);
  return event->moment->is_reached ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  stream->add([moment = event->moment] {
    std::unique_lock lock(moment->mutex);
    moment->reached.wait(lock, [&] { return moment->is_reached; });
  });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (kind == cudaMemcpyHostToDevice) refuse_copy(from, to, bytes);
  if (kind == cudaMemcpyDeviceToHost) refuse_copy(to, from, bytes);
  stream->add([=] { pregate::transport::copy_scrambled(to, from, bytes); });
  return cudaSuccess;
}

const char* ncclGetErrorString(ncclResult_t) { return "unhandled system error"; }
const char* ncclGetLastError(ncclComm_t) { return "the network was broken for the test"; }
ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<uint64_t> next{1};
  const uint64_t number = next++;
  std::memset(id, 0, sizeof(*id));
  std::memcpy(id, &number, sizeof(number));
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) refuse("a communicator that blocks");
  *comm = new ncclComm{group_of(id), rank, num_ranks};
  ++world().num_comms;
  Group& group = *(*comm)->group;
  const std::lock_guard lock(group.mutex);
  ++group.num_joined;
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const std::lock_guard lock(comm->group->mutex);
  const bool is_joined = comm->group->num_joined >= comm->num_ranks;
  *error = is_joined ? ncclSuccess : ncclInProgress;
  if (comm->failed) *error = ncclSystemError;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    // As the kernels of NCCL do: those of the other end go on as if all had been sent.
    const std::lock_guard lock(comm->group->mutex);
    comm->aborted = true;
    world().uses.end_all(comm);
    for (auto& [ends, posts] : comm->group->posts) {
      for (const auto& post : posts) post->is_garbage |= ends.first == comm->rank;
    }
  }
  comm->group->changed.notify_all();
  // Its tasks may still look at it: the streams, which they run on, end later.
  static std::mutex mutex;
  static std::vector<std::unique_ptr<ncclComm>> aborted;
  const std::lock_guard lock(mutex);
  aborted.emplace_back(comm);
  --world().num_comms;
  return ncclSuccess;
}
ncclResult_t ncclSend(const void* from, size_t bytes, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add(comm, {true, peer, const_cast<void*>(from), bytes}, stream);
}
ncclResult_t ncclRecv(void* to, size_t bytes, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add(comm, {false, peer, to, bytes}, stream);
}
ncclResult_t ncclGroupStart() {
  in_group = true;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  in_group = false;
  if (grouped.empty()) return ncclSuccess;
  grouped_stream->add([comm = grouped_comm, transfers = std::exchange(grouped, {})] {
    transfer_all(*comm, transfers);
  });
  return ncclSuccess;
}

}  // extern "C"
