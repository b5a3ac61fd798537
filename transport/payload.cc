#include "transport/payload.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace pregate::transport {

std::shared_ptr<std::byte[]> allocate_payload(size_t size) {
  constexpr auto kAlignment = std::align_val_t(kPayloadAlignment);
  auto* data = static_cast<std::byte*>(::operator new(std::max<size_t>(size, 1), kAlignment));
  return {data, [](std::byte* bytes) { ::operator delete(bytes, kAlignment); }};
}

Payload Payload::copy_of(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  const auto data = allocate_payload(bytes.size());
  std::memcpy(data.get(), bytes.data(), bytes.size());
  return {data, bytes.size()};
}

}  // namespace pregate::transport
