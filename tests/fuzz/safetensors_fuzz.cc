// Any bytes as a safetensors file, and as the header of one. What is accepted must lie in the file,
// byte after byte.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "model/checkpoint/safetensors.h"

namespace {

using namespace pregate;

void require(bool condition) {
  if (!condition) std::abort();
}

void try_file(std::span<const std::byte> file) {
  const auto header = model::parse_safetensors(file, "input");
  if (!header) {
    require(header.error().code == ErrorCode::kDataLoss);
    return;
  }
  size_t covered_bytes = 0;
  for (const auto& [name, entry] : *header) {
    require(entry.begin_bytes <= entry.end_bytes && entry.end_bytes <= file.size());
    covered_bytes += entry.end_bytes - entry.begin_bytes;
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  require(sizeof(header_bytes) + header_bytes + covered_bytes == file.size());
}

}  // namespace

/// The first byte is how many bytes of data follow the header that the rest is.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try_file(std::as_bytes(std::span(data, size)));
  if (size == 0) return 0;
  const uint64_t header_bytes = size - 1;
  std::string file(sizeof(header_bytes), '\0');
  std::memcpy(file.data(), &header_bytes, sizeof(header_bytes));
  file.append(reinterpret_cast<const char*>(data) + 1, header_bytes);
  file.append(data[0], '\0');
  try_file(std::as_bytes(std::span(file)));
  return 0;
}
