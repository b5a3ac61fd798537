// The weight files of a model directory as one set of named tensors.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint/tensor_file.h"

namespace pregate::model {

struct TensorLocation {
  const TensorFile* file = nullptr;
  const TensorEntry* entry = nullptr;
};

/// Immutable after open(); thread-safe. Locations are valid while the object lives.
class TensorFiles {
 public:
  /// Takes the files that model.safetensors.index.json lists, else model.safetensors, else every
  /// *.safetensors; where there are none, the same of pytorch_model.bin and pytorch_model*.bin.
  /// Errors: kNotFound when there is none or a listed one is missing, kDataLoss when a file is
  /// damaged, lacks a tensor that the index promises, or two files hold the same tensor,
  /// kUnimplemented for what torch_file.h does not read.
  static Result<TensorFiles> open(const std::filesystem::path& directory);

  const std::map<std::string, TensorLocation, std::less<>>& tensors() const { return tensors_; }
  const std::deque<TensorFile>& files() const { return files_; }

 private:
  using OpenFile = Result<TensorFile> (*)(const std::filesystem::path& path);

  Status open_indexed(const std::filesystem::path& index, OpenFile open_file);
  Status open_all(const std::vector<std::filesystem::path>& paths, OpenFile open_file);
  Result<const TensorFile*> add_file(const std::filesystem::path& path, OpenFile open_file);

  std::deque<TensorFile> files_;  // a deque: locations point into it
  std::map<std::string, TensorLocation, std::less<>> tensors_;
};

}  // namespace pregate::model
