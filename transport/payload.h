// The bulk bytes of a message, shared instead of copied.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace pregate::transport {

/// Where payloads begin: whole cache lines, so that kernels may read rows in place.
inline constexpr size_t kPayloadAlignment = 64;

/// `size` uninitialised bytes at kPayloadAlignment. Fill them, then share them as a Payload.
std::shared_ptr<std::byte[]> allocate_payload(size_t size);

/// Immutable bytes and a share in whatever owns them: copying a Payload copies a pointer.
class Payload {
 public:
  Payload() = default;
  Payload(std::shared_ptr<const std::byte[]> data, size_t size)
      : data_(std::move(data)), size_(size) {}
  static Payload copy_of(std::span<const std::byte> bytes);

  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  size_t size() const { return size_; }
  /// The part [offset, offset + size), which keeps the whole alive.
  Payload slice(size_t offset, size_t size) const {
    return {std::shared_ptr<const std::byte[]>(data_, data_.get() + offset), size};
  }

 private:
  std::shared_ptr<const std::byte[]> data_;
  size_t size_ = 0;
};

}  // namespace pregate::transport
