#include "compute/number.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace pregate::compute {
namespace {

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);             // a tie: down to even
  EXPECT_EQ(f32_to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);         // a tie: up to even
  EXPECT_EQ(f32_to_bf16(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);  // over the tie
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(Bf16, KeepsInfinityNaNAndSign) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(bf16_to_f32(f32_to_bf16(-infinity)), -infinity);
  EXPECT_TRUE(std::signbit(bf16_to_f32(f32_to_bf16(-0.0f))));
  // A NaN whose payload lies only in the bits that are cut off must not become an infinity.
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Bf16, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = bf16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(f32_to_bf16(value), bits);
  }
}

TEST(F16, EveryFiniteValueIsWhatTheFormatSays) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>((bits >> 10) & 0x1f);
    const auto mantissa = static_cast<float>(bits & 0x3ff);
    if (exponent == 31) continue;
    const float magnitude =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024.0f, exponent - 25);
    const float expected = (bits & 0x8000) != 0 ? -magnitude : magnitude;
    ASSERT_EQ(f16_to_f32(static_cast<uint16_t>(bits)), expected) << bits;
  }
}

TEST(F16, InfinityAndNaN) {
  EXPECT_EQ(f16_to_f32(0xfc00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(f16_to_f32(0x7c01)));
}

TEST(F8, EveryValueIsWhatTheFormatSays) {
  for (uint32_t bits = 0; bits < 0x100; ++bits) {
    const float value = f8_to_f32(static_cast<uint8_t>(bits));
    if ((bits & 0x7f) == 0x7f) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    const int exponent = static_cast<int>((bits >> 3) & 0xf);
    const auto mantissa = static_cast<float>(bits & 7);
    const float magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(mantissa + 8.0f, exponent - 10);
    ASSERT_EQ(value, (bits & 0x80) != 0 ? -magnitude : magnitude) << bits;
    ASSERT_EQ(std::signbit(value), (bits & 0x80) != 0) << bits;
  }
  EXPECT_EQ(f8_to_f32(0x7e), kLargestF8);
}

TEST(F8, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x100; ++bits) {
    if ((bits & 0x7f) == 0x7f) continue;
    ASSERT_EQ(f32_to_f8(f8_to_f32(static_cast<uint8_t>(bits))), bits);
  }
}

TEST(F8, RoundsToNearestEven) {
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const float low = f8_to_f32(code), high = f8_to_f32(code + 1);
    const float tie = (low + high) / 2;
    ASSERT_EQ(f32_to_f8(tie), code % 2 == 0 ? code : code + 1) << tie;
    ASSERT_EQ(f32_to_f8(-tie), 0x80 | (code % 2 == 0 ? code : code + 1)) << tie;
    ASSERT_EQ(f32_to_f8(std::nextafter(tie, low)), code) << tie;
    ASSERT_EQ(f32_to_f8(std::nextafter(tie, high)), code + 1) << tie;
  }
}

TEST(Rank, OfANumberSaysWhichItIs) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float numbers[] = {-infinity, -1.5f, -1e-42f, 0.0f, 1e-42f, 3.0f, infinity};
  for (const float number : numbers) EXPECT_EQ(number_at(rank_of(number)), number);
  EXPECT_EQ(number_at(rank_of(-0.0f)), 0.0f);
  EXPECT_TRUE(std::isnan(number_at(rank_of(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(F8, WhatIsTooLargeBecomesTheLargest) {
  EXPECT_EQ(f32_to_f8(465.0f), 0x7e);
  EXPECT_EQ(f32_to_f8(-std::numeric_limits<float>::max()), 0xfe);
  EXPECT_EQ(f32_to_f8(std::numeric_limits<float>::denorm_min()), 0);
}

}  // namespace
}  // namespace pregate::compute
