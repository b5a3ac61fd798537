// Memory of a device that several parts of a process use: what computes there, and what brings
// bytes there from other devices.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"

namespace pregate {

/// Thread-safe. Addresses are the device's: the host reads and writes nothing there itself. Errors
/// of all calls: kUnavailable, the device is lost.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  /// Begins at a multiple of 64; holds no particular values. Any thread may drop it. Who does has
  /// waited for all that the device was to do with it: somebody else is given it at once. Error:
  /// kResourceExhausted.
  virtual Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) = 0;
  // Done when they return, and not in order with what else the device was to do with the memory,
  // which is waited for before.
  virtual Status read(std::span<std::byte> to, const std::byte* from) = 0;
  virtual Status write(std::byte* to, std::span<const std::byte> from) = 0;
};

}  // namespace pregate
