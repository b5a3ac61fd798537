// Conversions between f32 and smaller float types.
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

}  // namespace pregate::compute
