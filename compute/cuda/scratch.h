// Memory that a back end keeps from call to call and that only grows.
#pragma once

#include <cstddef>
#include <memory>

#include "base/result.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

enum class MemoryKind { kDevice, kPinned };

/// What take() returns holds no particular values and is valid until the next take().
template <MemoryKind kKind>
class Scratch {
 public:
  explicit Scratch(Device& device) : device_(device) {}
  ~Scratch() { release(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Result<std::byte*> take(size_t bytes) {
    if (bytes <= size_bytes_) return data_;
    release();
    const size_t wanted = bytes + bytes / 4;
    PREGATE_ASSIGN(data_, kKind == MemoryKind::kDevice ? device_.allocate(wanted)
                                                       : device_.allocate_pinned(wanted));
    size_bytes_ = wanted;
    return data_;
  }

 private:
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
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

using DeviceScratch = Scratch<MemoryKind::kDevice>;
using PinnedScratch = Scratch<MemoryKind::kPinned>;

}  // namespace pregate::compute::cuda
