// A device that is the processor itself: memory is the host's, which may touch it only as a device
// lets it, and each kernel is a few plain loops over the layouts of compute/cuda/layout.h. With it,
// all of the CUDA back end but the kernels is tested where there is no device. What a stream is
// given is done when it is waited for, not before.
#pragma once

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "compute/cuda/device.h"
#include "tests/support/guarded_memory.h"

namespace pregate::compute::cuda {

class FakeDevice final : public Device {
 public:
  explicit FakeDevice(size_t memory_bytes = size_t{4} << 30) : memory_bytes_(memory_bytes) {}

  DeviceInfo info() const override;
  Result<std::byte*> allocate(size_t bytes) override;
  void free(std::byte* memory) override;
  Result<std::byte*> allocate_pinned(size_t bytes) override;
  void free_pinned(std::byte* memory) override { std::free(memory); }
  Result<std::unique_ptr<Stream>> make_stream() override;
  Result<DeviceLimits> measure_limits() override {
    return fail(ErrorCode::kUnimplemented, "a fake device has no speed");
  }

  size_t used_bytes() const { return memory_.used_bytes(); }
  /// From now on nothing works.
  void lose() { lost_ = true; }
  bool is_lost() const { return lost_; }
  // By all streams.
  size_t downloaded_bytes() const { return counts_.downloaded_bytes; }
  size_t num_replays() const { return counts_.replays; }
  struct Counts {
    std::atomic<size_t> downloaded_bytes{0}, replays{0};
  };

 private:
  const size_t memory_bytes_;
  std::mutex allocating_;
  GuardedMemory memory_;
  std::atomic<bool> lost_{false};
  Counts counts_;
};

}  // namespace pregate::compute::cuda
