#include "model/elements.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace pregate::model {
namespace {

using compute::DType;

float from_bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

/// 1 sign, 5 exponent (bias 15), 10 fraction bits.
float from_f16(uint16_t bits) {
  constexpr int kBias = 15, kFractionBits = 10, kAllOnes = 31;
  const int exponent = bits >> kFractionBits & kAllOnes;
  const int fraction = bits & ((1 << kFractionBits) - 1);
  const float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == kAllOnes) {
    return fraction == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  }
  const int scale = std::max(exponent, 1) - kBias - kFractionBits;
  const int significand = exponent == 0 ? fraction : fraction + (1 << kFractionBits);
  return sign * std::ldexp(float(significand), scale);
}

uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounding = 0x7FFF + (bits >> 16 & 1);
  return uint16_t((bits + rounding) >> 16);
}

/// For finite values; what is too large becomes infinite.
uint16_t to_f16(float value) {
  constexpr int kSmallestScale = -24;  // the exponent of the least significant bit of a subnormal
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float magnitude = std::fabs(value);
  if (magnitude == 0.0f) return sign;
  const int scale = std::max(std::ilogb(magnitude) - 10, kSmallestScale);
  // The significand's leading bit adds one to the exponent field, and so does rounding up to 2048.
  const int significand = int(std::nearbyint(std::ldexp(magnitude, -scale)));
  const int exponent = scale - kSmallestScale;
  const int bits = (exponent << 10) + significand;
  return uint16_t(sign | std::min(bits, 0x7C00));
}

template <typename T>
T load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

}  // namespace

std::vector<float> to_floats(std::span<const std::byte> bytes, DType dtype) {
  const size_t width = compute::dtype_bytes(dtype);
  std::vector<float> values(bytes.size() / width);
  for (size_t i = 0; i < values.size(); ++i) {
    const std::byte* at = bytes.data() + i * width;
    values[i] = dtype == DType::kF32    ? load<float>(at)
                : dtype == DType::kBf16 ? from_bf16(load<uint16_t>(at))
                                        : from_f16(load<uint16_t>(at));
  }
  return values;
}

std::vector<std::byte> from_floats(std::span<const float> values, DType dtype) {
  const size_t width = compute::dtype_bytes(dtype);
  std::vector<std::byte> bytes(values.size() * width);
  for (size_t i = 0; i < values.size(); ++i) {
    std::byte* at = bytes.data() + i * width;
    if (dtype == DType::kF32) {
      std::memcpy(at, &values[i], sizeof(float));
    } else {
      const uint16_t bits = dtype == DType::kBf16 ? to_bf16(values[i]) : to_f16(values[i]);
      std::memcpy(at, &bits, sizeof(bits));
    }
  }
  return bytes;
}

}  // namespace pregate::model
