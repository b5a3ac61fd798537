#include "protocol/archive.h"

namespace pregate::protocol {

void Encoder::append(const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  out_.insert(out_.end(), bytes, bytes + size);
}

void Encoder::zeros(const char*, size_t count) { out_.insert(out_.end(), count, std::byte{0}); }

}  // namespace pregate::protocol
