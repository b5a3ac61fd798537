#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "compute/f8.h"
#include "compute/number.h"
#include "compute/q4.h"
#include "compute/reference/backend.h"
#include "compute/source.h"
#include "compute/weight_bytes.h"

namespace pregate::compute::reference {
namespace {

/// One scale and up to kQ8Group values, as EncodedRows describes them. What is not finite cannot be
/// scaled: the group's scale becomes NaN, and so will every sum it enters.
void encode_q8_group(std::span<const float> x, float* scale, int8_t* values) {
  float largest = 0.0f;
  bool finite = true;
  for (const float value : x) {
    largest = std::max(largest, std::fabs(value));
    finite = finite && std::isfinite(value);
  }
  *scale = finite ? largest / 127.0f : std::nanf("");
  std::fill_n(values, kQ8Group, int8_t{0});
  if (!finite || *scale == 0.0f) return;
  for (size_t i = 0; i < x.size(); ++i) {
    // Where the scale is subnormal the quotient may exceed 127.
    const float quotient = std::clamp(x[i] / *scale, -127.0f, 127.0f);
    values[i] = static_cast<int8_t>(std::nearbyint(quotient));  // to nearest even
  }
}

int q4_code(float y, int factor) {
  const float code = std::nearbyint(y * (1.0f / (kQ4Fraction * static_cast<float>(factor))));
  return static_cast<int>(std::clamp<float>(code, kQ4SmallestCode, kQ4LargestCode));
}

float squared_error(std::span<const float> y, int factor) {
  float sum = 0.0f;
  for (const float value : y) {
    const float rounded = static_cast<float>(q4_code(value, factor) * factor) * kQ4Fraction;
    sum += (value - rounded) * (value - rounded);
  }
  return sum;
}

int choose_factor(std::span<const float> y) {
  float largest = 0.0f;
  for (const float value : y) largest = std::max(largest, std::fabs(value));
  const int middle = static_cast<int>(std::nearbyint(largest / (7.5f * kQ4Fraction)));
  const auto factor_at = [middle](int i) { return std::clamp(middle + i, 1, kQ4LargestFactor); };
  int best = factor_at(-2);
  for (const int factor : {factor_at(-1), factor_at(0), factor_at(1)}) {
    if (squared_error(y, factor) < squared_error(y, best)) best = factor;
  }
  return best;
}

/// A group of weights in kQ4 as the same numbers in kQ8.
void round_q4_group(std::span<const float> weights, float* scale, int8_t* values) {
  float largest = 0.0f;
  for (const float weight : weights) largest = std::max(largest, std::fabs(weight));
  *scale = bf16_to_f32(f32_to_bf16(largest / kQ4ScaleSteps));
  std::fill_n(values, kQ8Group, int8_t{0});
  if (*scale == 0.0f) return;
  float y[kQ8Group] = {};
  for (size_t i = 0; i < weights.size(); ++i) {
    y[i] = std::nearbyint(std::clamp(weights[i] / *scale, -127.0f, 127.0f) * kQ4Fraction);
  }
  for (size_t first = 0; first < kQ8Group; first += kQ4Part) {
    const int factor = choose_factor({y + first, kQ4Part});
    for (size_t i = first; i < first + kQ4Part; ++i) {
      values[i] = static_cast<int8_t>(factor * q4_code(y[i], factor));
    }
  }
}

/// Calls encode_group(numbers, scale, values) for each group of a row in the layout of kQ8.
template <typename EncodeGroup>
void for_groups(std::span<const float> x, std::byte* out, EncodeGroup encode_group) {
  const size_t num_groups = (x.size() + kQ8Group - 1) / kQ8Group;
  auto* scales = reinterpret_cast<float*>(out);
  auto* values = reinterpret_cast<int8_t*>(out + num_groups * sizeof(float));
  for (size_t g = 0; g < num_groups; ++g) {
    const size_t first = g * kQ8Group;
    const size_t count = std::min(kQ8Group, x.size() - first);
    encode_group(x.subspan(first, count), scales + g, values + first);
  }
}

float dot_q8(const std::byte* a, const std::byte* b, size_t cols) {
  const size_t num_groups = (cols + kQ8Group - 1) / kQ8Group;
  const auto* a_scales = reinterpret_cast<const float*>(a);
  const auto* b_scales = reinterpret_cast<const float*>(b);
  const auto* a_values = reinterpret_cast<const int8_t*>(a_scales + num_groups);
  const auto* b_values = reinterpret_cast<const int8_t*>(b_scales + num_groups);
  float sum = 0.0f;
  for (size_t g = 0; g < num_groups; ++g) {
    int32_t group_sum = 0;
    for (size_t i = g * kQ8Group; i < (g + 1) * kQ8Group; ++i) {
      group_sum += a_values[i] * b_values[i];
    }
    sum += static_cast<float>(group_sum) * (a_scales[g] * b_scales[g]);
  }
  return sum;
}

float dot_f8(const std::byte* x, const std::byte* weights, size_t cols) {
  const size_t num_groups = (cols + kQ8Group - 1) / kQ8Group;
  const auto* numbers = reinterpret_cast<const uint16_t*>(x);
  const auto* scales = reinterpret_cast<const float*>(weights);
  const auto* codes = reinterpret_cast<const uint8_t*>(scales + num_groups);
  float sum = 0.0f;
  for (size_t g = 0; g < num_groups; ++g) {
    float group_sum = 0.0f;
    for (size_t i = g * kQ8Group; i < std::min((g + 1) * kQ8Group, cols); ++i) {
      group_sum += bf16_to_f32(numbers[i]) * f8_to_f32(codes[i]);
    }
    sum += group_sum * scales[g];
  }
  return sum;
}

}  // namespace

void encode_row(std::span<const float> x, WeightFormat format, std::byte* out) {
  switch (format) {
    case WeightFormat::kF32:
      std::memcpy(out, x.data(), x.size_bytes());
      break;
    case WeightFormat::kBf16:
    case WeightFormat::kF8:
      std::transform(x.begin(), x.end(), reinterpret_cast<uint16_t*>(out), f32_to_bf16);
      break;
    case WeightFormat::kQ8:
    case WeightFormat::kQ4:
      for_groups(x, out, encode_q8_group);
      break;
  }
}

float dot(const std::byte* x, const std::byte* weights, WeightFormat format, size_t cols) {
  if (arithmetic_of(format) == WeightFormat::kQ8) return dot_q8(x, weights, cols);
  if (format == WeightFormat::kF8) return dot_f8(x, weights, cols);
  const auto number = [format](const std::byte* row, size_t i) {
    return format == WeightFormat::kF32 ? reinterpret_cast<const float*>(row)[i]
                                        : bf16_to_f32(reinterpret_cast<const uint16_t*>(row)[i]);
  };
  float sum = 0.0f;
  for (size_t i = 0; i < cols; ++i) sum += number(x, i) * number(weights, i);
  return sum;
}

Result<std::unique_ptr<DenseMatrix>> DenseMatrix::pack(const SourceMatrix& source,
                                                       WeightFormat format) {
  PREGATE_TRY(check_source(source));
  auto matrix = std::make_unique<DenseMatrix>();
  matrix->format_ = format;
  matrix->out_features_ = source.rows;
  matrix->in_features_ = source.cols;
  matrix->row_bytes_ = weight_row_bytes(kept_format("reference", format), source.cols);
  matrix->rows_.resize(source.rows * matrix->row_bytes_);
  std::vector<float> row(source.cols);
  for (size_t r = 0; r < source.rows; ++r) {
    PREGATE_TRY(read_row(source, r, row));
    std::byte* const out = matrix->rows_.data() + r * matrix->row_bytes_;
    if (format == WeightFormat::kQ4) {
      for_groups(row, out, round_q4_group);
    } else if (format == WeightFormat::kF8) {
      keep_f8_row(source, r, row, out);
    } else {
      encode_row(row, format, out);
    }
  }
  return matrix;
}

Result<std::unique_ptr<PackedMatrix>> ReferenceBackend::pack(const SourceMatrix& weights,
                                                             WeightFormat format) {
  return DenseMatrix::pack(weights, format);
}

Result<std::unique_ptr<PackedExpert>> ReferenceBackend::pack_expert(const ExpertSource& weights,
                                                                    WeightFormat format) {
  PREGATE_TRY(check_source(weights));
  const auto pack_named = [format](const SourceMatrix& source, std::string_view what) {
    return DenseMatrix::pack(source, format).map_error([what](Error error) {
      return in_context(std::move(error), what);
    });
  };
  auto expert = std::make_unique<Expert>();
  PREGATE_ASSIGN(expert->gate, pack_named(weights.gate, "gate"));
  PREGATE_ASSIGN(expert->up, pack_named(weights.up, "up"));
  PREGATE_ASSIGN(expert->down, pack_named(weights.down, "down"));
  return expert;
}

void ReferenceBackend::encode(Matrix<const float> x, WeightFormat format, std::byte* out) {
  const size_t row_bytes = encoded_row_bytes(format, x.cols);
  for (size_t r = 0; r < x.rows; ++r) encode_row(x.row(r), format, out + r * row_bytes);
}

}  // namespace pregate::compute::reference
