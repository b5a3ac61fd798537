#include "model/checkpoint/safetensors_writer.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include <boost/json.hpp>

namespace pregate::model {

std::string safetensors_header(std::span<const SafetensorsOutline> tensors,
                               const std::map<std::string, std::string>& metadata) {
  constexpr size_t kAlignment = 8;  // of the data section, as the format recommends
  boost::json::object header{{"__metadata__", boost::json::value_from(metadata)}};
  size_t offset = 0;
  for (const SafetensorsOutline& tensor : tensors) {
    header[tensor.name] = {
        {"dtype", boost::json::string_view(tensor.dtype.data(), tensor.dtype.size())},
        {"shape", boost::json::value_from(tensor.shape)},
        {"data_offsets", {offset, offset + tensor.bytes}}};
    offset += tensor.bytes;
  }
  std::string text = boost::json::serialize(header);
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  std::string bytes(kAlignment, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = char(text.size() >> (8 * i) & 0xFF);
  return bytes + text;
}

Status write_safetensors(const std::filesystem::path& path,
                         std::span<const SafetensorsTensor> tensors,
                         const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsOutline> outlines;
  for (const auto& tensor : tensors) {
    outlines.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.bytes.size()});
  }
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << safetensors_header(outlines, metadata);
  for (const auto& tensor : tensors) file << tensor.bytes;
  file.close();
  if (file.good()) return {};
  return fail(ErrorCode::kResourceExhausted, "{}: cannot write: {}", path.string(),
              std::strerror(errno));
}

}  // namespace pregate::model
