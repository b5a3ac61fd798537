// The bulk bytes of a message, shared instead of copied.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/device_memory.h"

namespace pregate::transport {

/// Where payloads begin: whole cache lines, so that kernels may read rows in place.
inline constexpr size_t kPayloadAlignment = 64;

/// `size` uninitialised bytes at kPayloadAlignment. Fill them, then share them as a Payload.
std::shared_ptr<std::byte[]> allocate_payload(size_t size);

/// The end of a payload that lies in a device's memory.
struct DeviceTail {
  std::shared_ptr<const std::byte[]> data;  ///< Complete: nothing writes there any more.
  size_t size = 0;
  std::shared_ptr<DeviceMemory> memory;  ///< Where it is.
};

/// Immutable bytes and a share in whatever owns them: copying a Payload copies pointers. They lie
/// in host memory; of one that is made so, the last of them in a device's, where few look for them:
/// who takes what may come from a device asks tail(), everybody else takes on_host().
class Payload {
 public:
  Payload() = default;
  Payload(std::shared_ptr<const std::byte[]> data, size_t size)
      : data_(std::move(data)), size_(size) {}
  /// `head` is all in host memory, `tail` is not empty.
  Payload(const Payload& head, DeviceTail tail);
  static Payload copy_of(std::span<const std::byte> bytes);

  size_t size() const { return size_ + (tail_ ? tail_->size : 0); }
  /// All of it. Has no tail.
  std::span<const std::byte> bytes() const;
  /// All but the tail.
  std::span<const std::byte> head() const { return {data_.get(), size_}; }
  /// Null: there is none.
  const DeviceTail* tail() const { return tail_.get(); }
  /// The same bytes without a tail: copied, if there is one. Error: DeviceMemory::read()'s.
  Result<Payload> on_host() const;
  /// The part [offset, offset + size), which keeps the whole alive. Has no tail.
  Payload slice(size_t offset, size_t size) const;

 private:
  std::shared_ptr<const std::byte[]> data_;
  size_t size_ = 0;
  std::shared_ptr<const DeviceTail> tail_;
};

}  // namespace pregate::transport
