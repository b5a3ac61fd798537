#pragma once

#include <string>
#include <utility>
#include <vector>

#include "compute/types.h"

namespace pregate::cli {

/// As --weights has them.
inline const std::vector<std::pair<std::string, compute::WeightFormat>> kWeightNames = {
    {"bf16", compute::WeightFormat::kBf16},
    {"f32", compute::WeightFormat::kF32},
    {"q8", compute::WeightFormat::kQ8},
    {"q4", compute::WeightFormat::kQ4},
    {"f8", compute::WeightFormat::kF8}};

inline std::string name_of(compute::WeightFormat format) {
  for (const auto& [name, named] : kWeightNames) {
    if (named == format) return name;
  }
  return "";
}

}  // namespace pregate::cli
