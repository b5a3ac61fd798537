// Memory of a device that several parts of a process use: what computes there, and what brings
// bytes there from other devices.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"

namespace pregate {

/// Thread-safe. Addresses are the device's: the host reads and writes nothing there itself.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  /// Begins at a multiple of 64; holds no particular values. Any thread may drop it, once what the
  /// device does with it is over. Error: kResourceExhausted.
  virtual Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) = 0;
  // Both wait until it is done, but not for anything else that was begun with the memory. Error:
  // kUnavailable, the device is lost.
  virtual Status read(std::span<std::byte> to, const std::byte* from) = 0;
  virtual Status write(std::byte* to, std::span<const std::byte> from) = 0;
};

}  // namespace pregate
