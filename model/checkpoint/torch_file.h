// What torch.save writes, in its form since PyTorch 1.6: a zip file of stored entries, with a
// pickle `<name>/data.pkl` and the bytes of each storage under `<name>/data/<key>`. Reading one
// runs nothing of it and imports nothing.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "base/mapped_file.h"
#include "base/result.h"
#include "model/checkpoint/tensor_file.h"
#include "model/checkpoint/torch_value.h"

namespace pregate::model {

/// The value that was saved; points into `file`. `where` names the file. Errors: kDataLoss if it is
/// damaged, kUnimplemented if it is valid but not read: compressed, in the old form, big-endian, or
/// with anything but tensors and plain containers in it.
Result<TorchValue> parse_torch_file(std::span<const std::byte> file, const std::string& where);

/// A mapped file and its value. Immutable, thread-safe.
class TorchFile {
 public:
  static Result<TorchFile> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const TorchValue& root() const { return root_; }  ///< Valid while the object lives.
  const MappedFile& file() const { return file_; }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  TorchValue root_;
};

/// The file of a state dict: a dict of tensors by name, all contiguous. Tensors may share bytes.
Result<TensorFile> open_torch_weights(const std::filesystem::path& path);

}  // namespace pregate::model
