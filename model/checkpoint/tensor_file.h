// A mapped file and the tensors that lie in it, whatever its format.
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

/// Where a tensor lies: row-major and without gaps, not necessarily aligned.
struct TensorEntry {
  std::string dtype;  ///< As safetensors spells it, whatever the format: "BF16".
  std::vector<size_t> shape;
  size_t begin_bytes = 0, end_bytes = 0;  ///< In the file.
};

using TensorTable = std::map<std::string, TensorEntry, std::less<>>;

/// The element type for a name as safetensors spells it; nothing for types no weight may have.
std::optional<compute::DType> weight_dtype(std::string_view name);

/// Immutable, thread-safe.
class TensorFile {
 public:
  /// Every entry of `tensors` lies in `file`.
  TensorFile(std::filesystem::path path, MappedFile file, TensorTable tensors)
      : path_(std::move(path)), file_(std::move(file)), tensors_(std::move(tensors)) {}

  const std::filesystem::path& path() const { return path_; }
  const TensorTable& tensors() const { return tensors_; }
  const MappedFile& file() const { return file_; }
  /// Valid while the object lives.
  std::span<const std::byte> data(const TensorEntry& entry) const {
    return file_.bytes().subspan(entry.begin_bytes, entry.end_bytes - entry.begin_bytes);
  }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  TensorTable tensors_;
};

}  // namespace pregate::model
