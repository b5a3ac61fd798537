// Conversions between f32 and smaller float types, and the order of numbers.
#pragma once

#include <bit>
#include <cstdint>

namespace pregate::compute {

constexpr float bf16_to_f32(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

/// Rounds to nearest even; a NaN stays a NaN.
constexpr uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// Larger for larger numbers, equal for both zeros; of a NaN 0, which is below all others.
constexpr uint32_t rank_of(float value) {
  if (value != value) return 0;
  const auto bits = std::bit_cast<uint32_t>(value == 0.0f ? 0.0f : value);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

/// The number of a rank, one of the zeros or NaNs.
constexpr float number_at(uint32_t rank) {
  return std::bit_cast<float>((rank >> 31) != 0 ? rank & 0x7fffffffu : ~rank);
}

constexpr float f16_to_f32(uint16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
  const uint32_t magnitude = value & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity or NaN
    return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  // Shifted into place the exponent is too small by 127 - 15; a product also puts subnormals right.
  constexpr float kTwoTo112 = 0x1p112f;
  const float scaled = std::bit_cast<float>(magnitude << 13) * kTwoTo112;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

/// For values that f16 holds as normal numbers or as zero; others become zero. Rounds to nearest.
constexpr uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = uint16_t(bits >> 16 & 0x8000u);
  const uint32_t magnitude = (bits & 0x7FFFFFFFu) + 0x0FFFu + (bits >> 13 & 1u);
  constexpr uint32_t kRebias = (127 - 15) << 23, kSmallestNormal = kRebias + (1u << 23);
  if (magnitude < kSmallestNormal) return sign;
  return uint16_t(sign | (magnitude - kRebias) >> 13);
}

/// The largest number in E4M3.
inline constexpr float kLargestF8 = 448.0f;

/// E4M3 without infinities; the magnitude 0x7f is a NaN.
constexpr float f8_to_f32(uint8_t value) {
  const auto sign = static_cast<uint32_t>(value & 0x80u) << 24;
  const uint32_t magnitude = value & 0x7fu;
  if (magnitude == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  // As in f16_to_f32().
  constexpr float kTwoTo120 = 0x1p120f;
  const float scaled = std::bit_cast<float>(magnitude << 20) * kTwoTo120;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

/// For finite values: rounds to nearest even, and to kLargestF8 what is larger.
constexpr uint8_t f32_to_f8(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 24 & 0x80u, magnitude = bits & 0x7FFFFFFFu;
  // Added to 2^14, what is below the smallest normal number is rounded to steps of 2^-9.
  constexpr float kSmallestNormal = 0x1p-6f, kRound = 0x1p14f;
  const auto subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + kRound) & 0xffu;
  constexpr uint32_t kRebias = (127 - 7) << 3, kLargest = 0x7e;
  const uint32_t rounded = ((magnitude + 0x7FFFFu + (magnitude >> 20 & 1u)) >> 20) - kRebias;
  const uint32_t normal = rounded < kLargest ? rounded : kLargest;
  return uint8_t(sign | (std::bit_cast<float>(magnitude) < kSmallestNormal ? subnormal : normal));
}

}  // namespace pregate::compute
