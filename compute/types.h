// Views and number formats that every back end shares. Views own nothing and never outlive the call
// they are passed to, unless a class says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pregate::compute {

/// Element types of checkpoint files; the KV cache takes two of them (KvShape).
enum class DType : uint8_t {
  kF32 = 0,
  kBf16 = 1,
  kF16 = 2,
  kF8 = 3,  ///< E4M3: 4 bits of exponent, 3 of mantissa, no infinities.
};

constexpr size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kBf16:
    case DType::kF16:
      return 2;
    case DType::kF8:
      return 1;
  }
  return 0;
}

/// How weights are kept and multiplied. The rows they are multiplied with are encoded to match
/// ("encoded rows" below). Sums are f32 always. The number travels on the wire.
enum class WeightFormat : uint8_t {
  kF32 = 0,
  kBf16 = 1,  ///< Weights and rows rounded to bf16.
  kQ8 = 2,    ///< int8 with one f32 scale per group of kQ8Group inputs, weights and rows alike.
  kQ4 = 3,    ///< Weights are those of kQ8 that 4 bits hold (q4.h); rows as in kQ8.
  kF8 = 4,    ///< Weights are E4M3 with scales as in kQ8 (f8.h); rows as in kBf16.
};
inline constexpr size_t kNumWeightFormats = 5;

/// The format whose arithmetic this is: rows are the same, and serve for weights of either.
constexpr WeightFormat arithmetic_of(WeightFormat format) {
  if (format == WeightFormat::kQ4) return WeightFormat::kQ8;
  return format == WeightFormat::kF8 ? WeightFormat::kBf16 : format;
}

/// Inputs that share a scale in WeightFormat::kQ8, kQ4 and kF8. 128 keeps scales under 4 % of the
/// weight bytes and lets a kernel run 128 int8 products before it must leave integers.
inline constexpr size_t kQ8Group = 128;

/// Row-major, `stride` elements from one row to the next.
template <typename T>
struct Matrix {
  T* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;

  Matrix() = default;
  Matrix(T* d, size_t r, size_t c) : data(d), rows(r), cols(c), stride(c) {}
  Matrix(T* d, size_t r, size_t c, size_t s) : data(d), rows(r), cols(c), stride(s) {}
  // A view of mutable elements serves where a view of constant ones is asked for.
  operator Matrix<const T>() const { return {data, rows, cols, stride}; }

  std::span<T> row(size_t r) const { return {data + r * stride, cols}; }
  Matrix slice_rows(size_t first, size_t count) const {
    return {data + first * stride, count, cols, stride};
  }
};

/// A factor for each block of a matrix: [ceil(rows / block_rows), ceil(cols / block_cols)], as
/// DeepSeek publishes 8-bit weights.
struct BlockScales {
  const std::byte* data = nullptr;  ///< Null: there are none.
  DType dtype = DType::kF32;
  size_t block_rows = 1;
  size_t block_cols = 1;
};

/// A weight as it lies in a checkpoint: [rows = out features, cols = in features], row-major and
/// contiguous; not necessarily aligned. With scales a weight is the number times its block's.
struct SourceMatrix {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  size_t rows = 0;
  size_t cols = 0;
  BlockScales scales = {};
};

/// Rows in the input format of a kernel, which is also how they travel between processes: a row
/// computed elsewhere gives what it gives here. One row takes encoded_row_bytes(format, cols):
///   kF32   cols x f32
///   kBf16  cols x bf16
///   kQ8    with G = ceil(cols / kQ8Group): G x f32 scale, then G * kQ8Group x int8 (zero padded);
///          scale = max|x| / 127 over the group, value = round-to-nearest-even(x / scale)
///   kQ4    as kQ8
///   kF8    as kBf16
/// Little-endian. `data` must be aligned to 4 bytes.
struct EncodedRows {
  WeightFormat format = WeightFormat::kF32;
  size_t rows = 0;
  size_t cols = 0;
  const std::byte* data = nullptr;
};

constexpr size_t encoded_row_bytes(WeightFormat format, size_t cols) {
  switch (format) {
    case WeightFormat::kF32:
      return cols * 4;
    case WeightFormat::kBf16:
    case WeightFormat::kF8:
      return cols * 2;
    case WeightFormat::kQ8:
    case WeightFormat::kQ4:
      return (cols + kQ8Group - 1) / kQ8Group * (4 + kQ8Group);
  }
  return 0;
}

}  // namespace pregate::compute
