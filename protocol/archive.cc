#include "protocol/archive.h"

#include <algorithm>

namespace pregate::protocol {

void Encoder::append(const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  out_.insert(out_.end(), bytes, bytes + size);
}

void Encoder::append_text(const char* field, const std::string& text, size_t max_bytes) {
  const size_t size = std::min(text.size(), max_bytes);
  (*this)(field, static_cast<uint16_t>(size));
  append(text.data(), size);
}

void Encoder::zeros(const char*, size_t count) { out_.insert(out_.end(), count, std::byte{0}); }

}  // namespace pregate::protocol
