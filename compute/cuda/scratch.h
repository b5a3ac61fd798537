// Memory that a back end keeps from call to call and that only grows.
#pragma once

#include <cstddef>
#include <memory>

#include "base/result.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

enum class MemoryKind { kDevice, kPinned };

/// What take() returns holds no particular values and is valid until the next take(). Before memory
/// is given back for more, the stream that works with it is waited for.
template <MemoryKind kKind>
class Scratch {
 public:
  Scratch(Device& device, Stream& stream) : device_(device), stream_(stream) {}
  ~Scratch() { release(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Result<std::byte*> take(size_t bytes) {
    if (bytes <= size_bytes_) return data_;
    if (data_ != nullptr) PREGATE_TRY(stream_.synchronize());
    release();
    size_bytes_ = bytes + bytes / 4;
    auto data = allocate(size_bytes_);
    if (!data) data = allocate(size_bytes_ = bytes);  // Room to grow can be done without.
    if (!data) size_bytes_ = 0;
    data_ = data.value_or(nullptr);
    return data;
  }

  /// What was given last; null: nothing was.
  const std::byte* data() const { return data_; }

 private:
  Result<std::byte*> allocate(size_t bytes) {
    if constexpr (kKind == MemoryKind::kDevice) return device_.allocate(bytes);
    return device_.allocate_pinned(bytes);
  }

  void release() {
    if (data_ == nullptr) return;
    if constexpr (kKind == MemoryKind::kDevice) {
      device_.free(data_);
    } else {
      device_.free_pinned(data_);
    }
    data_ = nullptr;
    size_bytes_ = 0;
  }

  Device& device_;
  Stream& stream_;
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

using DeviceScratch = Scratch<MemoryKind::kDevice>;
using PinnedScratch = Scratch<MemoryKind::kPinned>;

}  // namespace pregate::compute::cuda
