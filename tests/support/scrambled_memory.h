// Stands in for a device's memory: what is read there by anybody but read() is not what was
// written.
#pragma once

#include <atomic>

#include "base/check.h"
#include "transport/payload.h"

namespace pregate::transport {

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
    for (size_t i = 0; i < to.size(); ++i) to[i] = from[i] ^ kMask;
    return {};
  }
  Status write(std::byte* to, std::span<const std::byte> from) override {
    for (size_t i = 0; i < from.size(); ++i) to[i] = from[i] ^ kMask;
    return {};
  }
  size_t used_bytes() const { return *used_bytes_; }

 private:
  static constexpr std::byte kMask{0x5a};

  const size_t max_bytes_;
  const std::shared_ptr<std::atomic<size_t>> used_bytes_ = std::make_shared<std::atomic<size_t>>(0);
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
