#include "model/synthetic/shard_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "model/checkpoint/safetensors.h"
#include "model/checkpoint/safetensors_writer.h"

namespace pregate::model {
namespace {

// Large enough for a disk, small enough to stay in a core's cache.
constexpr size_t kPieceBytes = size_t{1} << 20;

std::string header_of(std::span<const RandomTensor> tensors) {
  std::vector<SafetensorsOutline> outlines;
  for (const RandomTensor& tensor : tensors) {
    outlines.push_back({tensor.name, safetensors_name(tensor.dtype), tensor.shape, tensor.bytes()});
  }
  return safetensors_header(outlines, {{"format", "pt"}});
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
  file << header_of(tensors);
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
