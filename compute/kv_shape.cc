#include "compute/kv_shape.h"

namespace pregate::compute {
namespace {

bool norm_fits(std::span<const float> weight, size_t head_dim, size_t cols) {
  return weight.empty() || weight.size() == head_dim || weight.size() == cols;
}

bool angles_fit(Matrix<const float> angles, size_t num_rows, size_t head_dim) {
  if (angles.cols == 0) return true;
  return angles.rows == num_rows && angles.stride == angles.cols && 2 * angles.cols <= head_dim;
}

}  // namespace

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

bool heads_fit(const KvShape& shape, const HeadOptions& options, Matrix<const float> q,
               Matrix<const float> k, Matrix<const float> v) {
  const size_t d = shape.head_dim;
  return options.layer < shape.num_layers && q.rows == k.rows && v.rows == k.rows && q.cols > 0 &&
         q.cols % d == 0 && k.cols == shape.num_kv_heads * d && v.cols == k.cols &&
         norm_fits(options.q_norm, d, q.cols) && norm_fits(options.k_norm, d, k.cols) &&
         angles_fit(options.cos, q.rows, d) && angles_fit(options.sin, q.rows, d) &&
         options.cos.cols == options.sin.cols;
}

}  // namespace pregate::compute
