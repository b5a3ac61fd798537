#include "compute/source.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "compute/number.h"

namespace pregate::compute {
namespace {

template <typename Stored, typename Convert>
void convert_row(const std::byte* from, std::span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    Stored stored;  // the source need not be aligned
    std::memcpy(&stored, from + i * sizeof(Stored), sizeof(Stored));
    out[i] = convert(stored);
  }
}

Status check_shape(const SourceMatrix& source, size_t rows, size_t cols, std::string_view what) {
  if (source.rows == rows && source.cols == cols) return {};
  return fail(ErrorCode::kInvalidArgument, "{} is [{}, {}]; expected [{}, {}]", what, source.rows,
              source.cols, rows, cols);
}

}  // namespace

Status check_source(const SourceMatrix& source) {
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
  switch (source.dtype) {
    case DType::kF32:
      std::memcpy(out.data(), from, out.size_bytes());
      break;
    case DType::kBf16:
      convert_row<uint16_t>(from, out, bf16_to_f32);
      break;
    case DType::kF16:
      convert_row<uint16_t>(from, out, f16_to_f32);
      break;
  }
  for (size_t col = 0; col < out.size(); ++col) {
    if (std::isfinite(out[col])) continue;
    return fail(ErrorCode::kDataLoss, "row {}, column {} is {}; expected a finite number", row, col,
                out[col]);
  }
  return {};
}

}  // namespace pregate::compute
