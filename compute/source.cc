#include "compute/source.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "compute/number.h"

namespace pregate::compute {
namespace {

/// A loop that becomes vectors, as one that stops at the first would not.
bool all_finite(std::span<const float> numbers) {
  bool all = true;
  for (const float number : numbers) {
    all &= (std::bit_cast<uint32_t>(number) & 0x7f800000u) != 0x7f800000u;
  }
  return all;
}

template <typename Stored, typename Convert>
void convert(const std::byte* from, std::span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    Stored stored;  // the source need not be aligned
    std::memcpy(&stored, from + i * sizeof(Stored), sizeof(Stored));
    out[i] = convert(stored);
  }
}

void convert_to_f32(const std::byte* from, DType dtype, std::span<float> out) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out.data(), from, out.size_bytes());
      return;
    case DType::kBf16:
      return convert<uint16_t>(from, out, bf16_to_f32);
    case DType::kF16:
      return convert<uint16_t>(from, out, f16_to_f32);
    case DType::kF8:
      return convert<uint8_t>(from, out, f8_to_f32);
  }
}

void scale_row(const SourceMatrix& source, size_t row, std::span<float> values) {
  for (size_t col = 0; col < values.size();) {
    const float scale = block_scale(source, row, col);
    const size_t end = std::min(col + source.scales.block_cols, values.size());
    for (; col < end; ++col) values[col] *= scale;
  }
}

Status check_shape(const SourceMatrix& source, size_t rows, size_t cols, std::string_view what) {
  if (source.rows == rows && source.cols == cols) return {};
  return fail(ErrorCode::kInvalidArgument, "{} is [{}, {}]; expected [{}, {}]", what, source.rows,
              source.cols, rows, cols);
}

}  // namespace

Status check_source(const SourceMatrix& source) {
  if (source.scales.block_rows == 0 || source.scales.block_cols == 0) {
    return fail(ErrorCode::kInvalidArgument, "scales are for blocks of [{}, {}]",
                source.scales.block_rows, source.scales.block_cols);
  }
  if (source.rows > 0 && source.cols > 0 && source.data != nullptr) return {};
  return fail(ErrorCode::kInvalidArgument, "weight is [{}, {}]; expected at least one element",
              source.rows, source.cols);
}

Status check_source(const ExpertSource& source) {
  const size_t f = source.gate.rows;
  const size_t h = source.gate.cols;
  for (const SourceMatrix* matrix : {&source.gate, &source.up, &source.down}) {
    PREGATE_TRY(check_source(*matrix));
  }
  PREGATE_TRY(check_shape(source.up, f, h, "up"));
  return check_shape(source.down, h, f, "down");
}

Status read_row(const SourceMatrix& source, size_t row, std::span<float> out) {
  PREGATE_CHECK(row < source.rows && out.size() == source.cols);
  const std::byte* from = source.data + row * source.cols * dtype_bytes(source.dtype);
  convert_to_f32(from, source.dtype, out);
  if (source.scales.data != nullptr) scale_row(source, row, out);
  if (all_finite(out)) return {};
  for (size_t col = 0; col < out.size(); ++col) {
    if (std::isfinite(out[col])) continue;
    return fail(ErrorCode::kDataLoss, "row {}, column {} is {}; expected a finite number", row, col,
                out[col]);
  }
  return {};
}

float block_scale(const SourceMatrix& source, size_t row, size_t col) {
  const BlockScales& scales = source.scales;
  const size_t blocks_of_row = (source.cols + scales.block_cols - 1) / scales.block_cols;
  const size_t block = row / scales.block_rows * blocks_of_row + col / scales.block_cols;
  float scale = 0.0f;
  convert_to_f32(scales.data + block * dtype_bytes(scales.dtype), scales.dtype, {&scale, 1});
  return scale;
}

}  // namespace pregate::compute
