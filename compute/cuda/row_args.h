// The plain structs between the back end and the kernels that work on rows in f32, as args.h has
// the others. Rows lie in the device's memory, `stride` numbers from one to the next.
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/types.h"

namespace pregate::compute::cuda {

/// Backend::rms_norm() and norm_encode(): y = x / rms(x) * weight over groups of `width` numbers.
/// x, y and sum may be the same.
struct NormArgs {
  const float* x = nullptr;
  uint32_t x_stride = 0;
  const float* addend = nullptr;  ///< Or null.
  uint32_t addend_stride = 0;
  float* sum = nullptr;  ///< With an addend: what is normed, x + addend, as x lies.
  float* y = nullptr;
  uint32_t y_stride = 0;
  const float* weight = nullptr;  ///< [width]
  uint32_t width = 0;
  uint32_t num_groups = 0;  ///< Of a row.
  uint32_t num_rows = 0;
  float epsilon = 0.0f;
  WeightFormat format = WeightFormat::kF32;  ///< As EncodeRowsArgs has it.
  std::byte* out = nullptr;                  ///< y encoded, of one group; null: it is not.
};

/// Backend::encode(), to the bit: rows as types.h has them, one after the other.
struct EncodeRowsArgs {
  WeightFormat format = WeightFormat::kF32;  ///< One that has an arithmetic of its own.
  const float* x = nullptr;
  uint32_t stride = 0;
  uint32_t cols = 0;
  uint32_t num_rows = 0;
  std::byte* out = nullptr;  ///< Aligned to 4 bytes.
};

/// Backend::add() and add_gated(): y += x, or y += sigmoid(gate) * x with a gate for each row.
struct AddArgs {
  float* y = nullptr;
  uint32_t y_stride = 0;
  const float* x = nullptr;
  uint32_t x_stride = 0;
  const float* gate = nullptr;  ///< [num_rows], or null.
  uint32_t cols = 0;
  uint32_t num_rows = 0;
};

/// Backend::take_rows(): row i of y becomes row rows[i] of x. They do not overlap.
struct TakeRowsArgs {
  float* y = nullptr;
  uint32_t y_stride = 0;
  const float* x = nullptr;
  uint32_t x_stride = 0;
  const uint32_t* rows = nullptr;  ///< [num_rows]
  uint32_t cols = 0;
  uint32_t num_rows = 0;
};

/// Backend::sum_rows().
struct SumRowsArgs {
  float* out = nullptr;
  uint32_t stride = 0;
  const float* const* addends = nullptr;  ///< Device addresses.
  const uint32_t* ends = nullptr;         ///< [num_rows]
  uint32_t cols = 0;
  uint32_t num_rows = 0;
};

/// Backend::take_encoded(). Rows lie one after the other, an even number of bytes each; x and out
/// are aligned to 4 bytes.
struct TakeEncodedArgs {
  std::byte* out = nullptr;
  const std::byte* x = nullptr;
  const uint32_t* rows = nullptr;  ///< [num_rows]
  uint32_t row_bytes = 0;
  uint32_t num_rows = 0;
};

/// Backend::choose_top_k(): ids and their order are the same as the host's, whatever the logits.
struct TopKArgs {
  const float* logits = nullptr;
  uint32_t stride = 0;
  uint32_t num_rows = 0;
  uint32_t num_experts = 0;  ///< At most kMaxTopKExperts.
  uint32_t k = 0;            ///< At most num_experts.
  bool normalize = false;
  uint32_t* ids = nullptr;  ///< [num_rows * k]
  float* gates = nullptr;   ///< [num_rows * k]
};
inline constexpr uint32_t kMaxTopKExperts = 2048;

}  // namespace pregate::compute::cuda
