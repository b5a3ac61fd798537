// Writes the safetensors format; safetensors.h describes it.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

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

}  // namespace pregate::model
