#include "model/synthetic/shard_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <boost/json.hpp>

#include "model/checkpoint/safetensors.h"

namespace pregate::model {
namespace {

// Large enough for a disk, small enough to stay in a core's cache.
constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr size_t kAlignment = 8;  // of the data section, as the format recommends

std::string header_bytes(std::span<const RandomTensor> tensors) {
  boost::json::object header{{"__metadata__", {{"format", "pt"}}}};
  size_t offset = 0;
  for (const RandomTensor& tensor : tensors) {
    const std::string_view dtype = safetensors_name(tensor.dtype);
    header[tensor.name] = {{"dtype", boost::json::string_view(dtype.data(), dtype.size())},
                           {"shape", boost::json::value_from(tensor.shape)},
                           {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text = boost::json::serialize(header);
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  std::string bytes(kAlignment, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = char(text.size() >> (8 * i) & 0xFF);
  return bytes + text;
}

}  // namespace

size_t RandomTensor::bytes() const {
  size_t total = compute::dtype_bytes(dtype);
  for (const size_t extent : shape) total *= extent;
  return total;
}

Status write_shard(const std::filesystem::path& path, std::span<const RandomTensor> tensors,
                   const std::function<void(size_t bytes)>& written) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << header_bytes(tensors);
  std::vector<std::byte> piece(kPieceBytes);
  for (const RandomTensor& tensor : tensors) {
    RandomValues values(tensor.seed, tensor.distribution, tensor.dtype);
    for (size_t left = tensor.bytes(); left > 0 && file.good();) {
      const size_t bytes = std::min(left, piece.size());
      values.fill({piece.data(), bytes});
      file.write(reinterpret_cast<const char*>(piece.data()), std::streamsize(bytes));
      left -= bytes;
      written(bytes);
    }
  }
  file.close();
  if (file.good()) return {};
  return fail(ErrorCode::kResourceExhausted, "{}: cannot write: {}", path.string(),
              std::strerror(errno));
}

}  // namespace pregate::model
