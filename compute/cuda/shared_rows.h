// Row memory for several threads, in an arena of its own: taking memory from the device itself, or
// giving it back, waits for what is done there, which may be waiting for another device.
#pragma once

#include <memory>
#include <mutex>

#include "base/device_memory.h"
#include "compute/cuda/arena.h"

namespace pregate::compute::cuda {

class CudaSharedRows final : public DeviceMemory {
 public:
  /// `arena`: of which there will never be more than its budget. `stream`: for read() and write().
  CudaSharedRows(Arena arena, std::unique_ptr<Stream> stream)
      : arena_(std::move(arena)), stream_(std::move(stream)) {}

  /// Takes all of it from the device, if that has so much; otherwise allocate() takes what it
  /// needs.
  void reserve();
  /// Whether an address is of such memory.
  bool holds(const void* address) const { return arena_.holds(address); }

  Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) override;
  Status read(std::span<std::byte> to, const std::byte* from) override;
  Status write(std::byte* to, std::span<const std::byte> from) override;

 private:
  Arena arena_;
  std::mutex copying_;
  const std::unique_ptr<Stream> stream_;  // by who holds copying_
};

}  // namespace pregate::compute::cuda
