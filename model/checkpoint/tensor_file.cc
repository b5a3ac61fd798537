#include "model/checkpoint/tensor_file.h"

namespace pregate::model {

std::optional<compute::DType> weight_dtype(std::string_view name) {
  if (name == "F32") return compute::DType::kF32;
  if (name == "BF16") return compute::DType::kBf16;
  if (name == "F16") return compute::DType::kF16;
  if (name == "F8_E4M3") return compute::DType::kF8;
  return std::nullopt;
}

}  // namespace pregate::model
