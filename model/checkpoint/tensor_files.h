// The weight files of a model directory as one set of named tensors.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint/safetensors.h"

namespace pregate::model {

struct TensorLocation {
  const SafetensorsFile* file = nullptr;
  const SafetensorsEntry* entry = nullptr;
};

/// Immutable after open(); thread-safe. Locations are valid while the object lives.
class TensorFiles {
 public:
  /// Takes the files that model.safetensors.index.json lists, else model.safetensors, else every
  /// *.safetensors. Errors: kNotFound when there is none or a listed one is missing, kDataLoss when
  /// a file is damaged, lacks a tensor that the index promises, or two files hold the same tensor.
  static Result<TensorFiles> open(const std::filesystem::path& directory);

  const std::map<std::string, TensorLocation, std::less<>>& tensors() const { return tensors_; }
  const std::deque<SafetensorsFile>& files() const { return files_; }

 private:
  Status open_indexed(const std::filesystem::path& index);
  Status open_all(const std::vector<std::filesystem::path>& paths);
  Result<const SafetensorsFile*> add_file(const std::filesystem::path& path);

  std::deque<SafetensorsFile> files_;  // a deque: locations point into it
  std::map<std::string, TensorLocation, std::less<>> tensors_;
};

}  // namespace pregate::model
