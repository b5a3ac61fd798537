// Writes random tensors as one safetensors file.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/synthetic/random_values.h"

namespace pregate::model {

struct RandomTensor {
  std::string name;
  std::vector<size_t> shape;
  compute::DType dtype = compute::DType::kBf16;
  uint64_t seed = 0;
  RandomValues::Distribution distribution;

  size_t bytes() const;
};

/// Calls `written` with the number of bytes after each piece. Errors name the path.
Status write_shard(const std::filesystem::path& path, std::span<const RandomTensor> tensors,
                   const std::function<void(size_t bytes)>& written);

}  // namespace pregate::model
