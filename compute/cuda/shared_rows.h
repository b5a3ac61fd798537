// Row memory for several threads: blocks of a device's memory that are kept when they are dropped
// and given out again, since taking memory from a device, or giving it back, waits for all that is
// done there.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/device_memory.h"
#include "compute/cuda/address_ranges.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

class CudaSharedRows final : public DeviceMemory,
                             public std::enable_shared_from_this<CudaSharedRows> {
 public:
  /// `stream`: for read() and write() alone.
  CudaSharedRows(std::shared_ptr<Device> device, std::unique_ptr<Stream> stream)
      : device_(std::move(device)), stream_(std::move(stream)) {}
  ~CudaSharedRows() override { give_back(); }

  Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) override;
  Status read(std::span<std::byte> to, const std::byte* from) override;
  Status write(std::byte* to, std::span<const std::byte> from) override;

  /// Whether an address is of such memory.
  bool holds(const void* address) const;
  /// Memory of the device for somebody else, who gives it back there. If there is no room, blocks
  /// that are kept make some.
  Result<std::byte*> allocate_beside(size_t bytes);

 private:
  Result<std::byte*> take(size_t block_bytes);
  /// Null: there is none.
  std::byte* take_kept(size_t block_bytes);
  void keep(std::byte* block, size_t block_bytes);
  /// Blocks that are kept, to the device.
  void give_back();
  std::vector<std::byte*> forget_kept();

  const std::shared_ptr<Device> device_;
  std::mutex copying_;
  const std::unique_ptr<Stream> stream_;  // by who holds copying_
  mutable std::mutex mutex_;              // never held while the device is asked: holds() is quick
  AddressRanges blocks_;                  // all
  std::map<size_t, std::vector<std::byte*>> kept_;  // those that nobody has, by size
};

}  // namespace pregate::compute::cuda
