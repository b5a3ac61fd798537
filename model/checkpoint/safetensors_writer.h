// Writes the safetensors format; safetensors.h describes it.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace pregate::model {

/// A tensor whose bytes are yet to be written.
struct SafetensorsOutline {
  std::string name;
  std::string_view dtype;  ///< As the format spells it: "BF16".
  std::vector<size_t> shape;
  size_t bytes = 0;
};

/// The bytes before the tensors' own, which must follow in the order given and without gaps.
std::string safetensors_header(std::span<const SafetensorsOutline> tensors,
                               const std::map<std::string, std::string>& metadata);

/// A tensor that lies in memory.
struct SafetensorsTensor {
  std::string name;
  std::string_view dtype;
  std::vector<size_t> shape;
  std::string_view bytes;
};

/// A whole file. Error: kResourceExhausted, naming it.
Status write_safetensors(const std::filesystem::path& path,
                         std::span<const SafetensorsTensor> tensors,
                         const std::map<std::string, std::string>& metadata);

}  // namespace pregate::model
