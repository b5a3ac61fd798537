#include "compute/kv_shape.h"

namespace pregate::compute {

Status check_kv_shape(const KvShape& shape) {
  if (shape.num_layers == 0 || shape.num_kv_heads == 0 || shape.head_dim == 0) {
    return fail(ErrorCode::kInvalidArgument,
                "KV shape has {} layers, {} heads of size {}; expected at least one of each",
                shape.num_layers, shape.num_kv_heads, shape.head_dim);
  }
  if (shape.dtype != DType::kF32 && shape.dtype != DType::kBf16) {
    return fail(ErrorCode::kInvalidArgument, "KV cache type is {}; expected f32 or bf16",
                shape.dtype == DType::kF16 ? "f16" : "f8");
  }
  return {};
}

}  // namespace pregate::compute
