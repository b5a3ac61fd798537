// The safetensors format: 8 bytes of header length (little-endian), a JSON header of
// {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {...}}, then the tensors'
// bytes.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "compute/types.h"

namespace pregate::model {

/// Longest header the format allows.
inline constexpr size_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct SafetensorsEntry {
  std::string dtype;  ///< As the file spells it: "BF16".
  std::vector<size_t> shape;
  size_t begin_bytes = 0, end_bytes = 0;  ///< In the file, not in its data section.
};

using SafetensorsHeader = std::map<std::string, SafetensorsEntry, std::less<>>;

/// Reads and checks the header of a whole file: each tensor has a known type, as many bytes as
/// its shape needs, and the tensors fill the data section without gaps or overlaps. `where` names
/// the file. Errors: kDataLoss.
Result<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file,
                                            const std::string& where);

/// The element type for a name as safetensors spells it; nothing for types no weight may have.
std::optional<compute::DType> weight_dtype(std::string_view name);
std::string_view safetensors_name(compute::DType dtype);

/// A mapped file and its header. Immutable, thread-safe.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const SafetensorsHeader& header() const { return header_; }
  const MappedFile& file() const { return file_; }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  SafetensorsHeader header_;
};

}  // namespace pregate::model
