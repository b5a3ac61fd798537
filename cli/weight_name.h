#pragma once

#include "compute/types.h"

namespace pregate::cli {

/// As --weights has it.
constexpr const char* name_of(compute::WeightFormat format) {
  switch (format) {
    case compute::WeightFormat::kF32:
      return "f32";
    case compute::WeightFormat::kBf16:
      return "bf16";
    case compute::WeightFormat::kQ8:
      return "q8";
  }
  return "";
}

}  // namespace pregate::cli
