// Row memory in a device's memory, and host memory that it copies to at full speed.
#pragma once

#include <memory>

#include "compute/cuda/address_ranges.h"
#include "compute/cuda/device.h"
#include "compute/cuda/shared_rows.h"
#include "compute/row_memory.h"

namespace pregate::compute::cuda {

/// Used by one thread, but for the shared rows.
class RowSpace : public std::enable_shared_from_this<RowSpace> {
 public:
  /// `stream` must outlive what is allocated; it is waited for before memory is given back.
  RowSpace(std::shared_ptr<Device> device, Stream& stream, std::shared_ptr<CudaSharedRows> shared)
      : device_(std::move(device)), stream_(stream), shared_(std::move(shared)) {}

  Result<std::unique_ptr<RowMemory>> allocate(size_t bytes);
  Result<std::unique_ptr<RowMemory>> allocate_pinned(size_t bytes);
  /// Whether an address is of row memory that is not given back; of such host memory.
  bool holds(const void* address) const { return rows_.hold(address) || shared_->holds(address); }
  bool is_pinned(const void* address) const { return pinned_.hold(address); }
  const std::shared_ptr<CudaSharedRows>& shared() const { return shared_; }
  /// Changes when row memory is given out that is not shared.
  uint64_t version() const { return version_; }

 private:
  class Rows;

  void release(std::byte* data);
  void release_pinned(std::byte* data);

  const std::shared_ptr<Device> device_;
  Stream& stream_;
  const std::shared_ptr<CudaSharedRows> shared_;
  AddressRanges rows_, pinned_;
  uint64_t version_ = 0;
};

}  // namespace pregate::compute::cuda
