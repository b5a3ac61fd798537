// The memory of a device, as far as payloads lie in it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"

namespace pregate::transport {

/// What computes on the device gives it to the transport, so that what one brings the other reads
/// where it is. Thread-safe. Addresses are the device's: the host reads nothing there itself.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  /// Begins at kPayloadAlignment; holds no particular values. Whoever drops the last share has
  /// waited for what the device does with it. Error: kResourceExhausted.
  virtual Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) = 0;
  // Both wait. Error: kUnavailable, the device is lost.
  virtual Status read(std::span<std::byte> to, const std::byte* from) = 0;
  virtual Status write(std::byte* to, std::span<const std::byte> from) = 0;
};

}  // namespace pregate::transport
