// Stand in for a device's memory.
#pragma once

#include <atomic>
#include <cstring>

#include "base/check.h"
#include "transport/payload.h"

namespace pregate::transport {

/// No matter for sanitizers, which look at every byte for long.
__attribute__((no_sanitize("thread"))) inline void scramble(void* memory, size_t bytes) {
  auto* const places = static_cast<unsigned char*>(memory);
  for (size_t i = 0; i < bytes; ++i) places[i] ^= 0x5a;
}

/// From host memory to what stands in for a device's, or back.
inline void copy_scrambled(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  std::memcpy(to, from, bytes);
  scramble(to, bytes);
}

/// What is read there by anybody but read() is not what was written.
class ScrambledMemory final : public DeviceMemory {
 public:
  /// At most `max_bytes` are given out at a time.
  explicit ScrambledMemory(size_t max_bytes = SIZE_MAX) : max_bytes_(max_bytes) {}

  Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) override {
    if (*used_bytes_ + bytes > max_bytes_) {
      return fail(ErrorCode::kResourceExhausted, "no room for {} bytes", bytes);
    }
    *used_bytes_ += bytes;
    const auto data = allocate_payload(bytes);
    return std::shared_ptr<std::byte[]>(
        data.get(), [data, bytes, used = used_bytes_](std::byte*) { *used -= bytes; });
  }
  Status read(std::span<std::byte> to, const std::byte* from) override {
    copy_scrambled(to.data(), from, to.size());
    return {};
  }
  Status write(std::byte* to, std::span<const std::byte> from) override {
    copy_scrambled(to, from.data(), from.size());
    return {};
  }
  size_t used_bytes() const { return *used_bytes_; }

 private:
  const size_t max_bytes_;
  const std::shared_ptr<std::atomic<size_t>> used_bytes_ = std::make_shared<std::atomic<size_t>>(0);
};

/// It gives out memory that nobody can read any more.
class LostMemory final : public DeviceMemory {
 public:
  Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) override {
    return allocate_payload(bytes);
  }
  Status read(std::span<std::byte>, const std::byte*) override {
    return fail(ErrorCode::kUnavailable, "cuda:0 is lost");
  }
  Status write(std::byte*, std::span<const std::byte>) override { return {}; }
};

/// A payload with this tail in `memory`, which has room for it.
inline Payload with_tail(const std::shared_ptr<DeviceMemory>& memory, const Payload& head,
                         std::span<const std::byte> tail) {
  const auto data = memory->allocate(tail.size()).value();
  const Status written = memory->write(data.get(), tail);
  PREGATE_CHECK(written.has_value());
  return {head, {data, tail.size(), memory}};
}

}  // namespace pregate::transport
