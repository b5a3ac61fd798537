// Row memory in a device's memory, and host memory that it copies to at full speed.
#pragma once

#include <map>
#include <memory>

#include "compute/cuda/device.h"
#include "compute/row_memory.h"

namespace pregate::compute::cuda {

/// Used by one thread.
class RowSpace : public std::enable_shared_from_this<RowSpace> {
 public:
  /// `stream` must outlive what is allocated; it is waited for before memory is given back.
  RowSpace(std::shared_ptr<Device> device, Stream& stream)
      : device_(std::move(device)), stream_(stream) {}

  Result<std::unique_ptr<RowMemory>> allocate(size_t bytes);
  Result<std::unique_ptr<RowMemory>> allocate_pinned(size_t bytes);
  /// Whether an address is of row memory that is not given back; of such host memory.
  bool holds(const void* address) const { return is_in(sizes_, address); }
  bool is_pinned(const void* address) const { return is_in(pinned_sizes_, address); }
  /// Changes when row memory is given out.
  uint64_t version() const { return version_; }

 private:
  /// By address, the highest first.
  using Sizes = std::map<const std::byte*, size_t, std::greater<>>;
  class Rows;

  static bool is_in(const Sizes& sizes, const void* address);
  void release(std::byte* data);
  void release_pinned(std::byte* data);

  const std::shared_ptr<Device> device_;
  Stream& stream_;
  Sizes sizes_, pinned_sizes_;
  uint64_t version_ = 0;
};

}  // namespace pregate::compute::cuda
