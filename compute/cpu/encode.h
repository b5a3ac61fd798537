// Encoding rows and the activation of an expert. Plain loops that the compiler vectorises for the
// instruction set of the file that includes them; the same bits everywhere.
// Included only by the kernel sources; everything is internal to them.
#pragma once

#include "compute/cpu/kernels.h"
#include "compute/cpu/vector.h"

namespace pregate::compute::cpu {
namespace {

inline void encode_f32_group(const float* x, size_t count, size_t, size_t group,
                             std::byte* encoded) {
  __builtin_memcpy(encoded + 4 * group * kQ8Group, x, 4 * count);
}

inline void encode_bf16_group(const float* x, size_t count, size_t, size_t group,
                              std::byte* encoded) {
  std::byte* out = encoded + 2 * group * kQ8Group;
  for (size_t i = 0; i < count; ++i) {
    const auto bits = __builtin_bit_cast(uint32_t, x[i]);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40u;
    store(out + 2 * i, static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded));
  }
}

/// The largest magnitude, as bits: those of a NaN or infinity exceed those of every number.
template <class Isa>
int32_t largest_magnitude_bits(const float (&x)[kQ8Group]) {
  using I32 = typename Vectors<Isa::kLanes>::I32;
  I32 lanes{};
  for (size_t i = 0; i < kQ8Group; i += Isa::kLanes) {
    const I32 magnitudes = load<I32>(x + i) & 0x7fffffff;
    lanes = magnitudes > lanes ? magnitudes : lanes;
  }
  int32_t largest = 0;
  for (size_t lane = 0; lane < Isa::kLanes; ++lane) {
    largest = lanes[lane] > largest ? lanes[lane] : largest;
  }
  return largest;
}

template <class Isa>
void encode_q8_group(const float* x, size_t count, size_t cols, size_t group, std::byte* encoded) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  float padded[kQ8Group] = {};
  __builtin_memcpy(padded, x, 4 * count);
  const int32_t largest = largest_magnitude_bits<Isa>(padded);
  const bool finite = largest < 0x7f800000;
  const float scale = finite ? __builtin_bit_cast(float, largest) / 127.0f : __builtin_nanf("");
  store(encoded + 4 * group, scale);
  const size_t groups = num_groups(cols);
  auto* values = reinterpret_cast<uint8_t*>(encoded + 4 * groups + group * kQ8Group);
  if (!finite || scale == 0.0f) {
    __builtin_memset(values, 0, kQ8Group);
    return;
  }
  const F32 limit = broadcast<F32>(127.0f);
  uint32_t shifted[kQ8Group];
  for (size_t i = 0; i < kQ8Group; i += Isa::kLanes) {
    // Where the scale is subnormal the quotient may exceed 127.
    F32 quotient = load<F32>(padded + i) / scale;
    quotient = quotient > limit ? limit : quotient;
    quotient = quotient < -limit ? -limit : quotient;
    store(shifted + i, quotient + 0x1.8p23f);
  }
  // The last byte of such a sum is the quotient, rounded to nearest even.
  for (size_t i = 0; i < kQ8Group; ++i) values[i] = static_cast<uint8_t>(shifted[i]);
}

/// Parts of a group side by side: what is done to each is one vector operation.
using OfParts = float[kQ4Parts];

/// Rounds to nearest even where |x| < 2^22.
[[gnu::always_inline]] inline float rounded(float x) { return x + 0x1.8p23f - 0x1.8p23f; }

[[gnu::always_inline]] inline float clamped(float x, float lowest, float highest) {
  x = x < lowest ? lowest : x;
  return x > highest ? highest : x;
}

[[gnu::always_inline]] inline float q4_code(float y, float factor) {
  return clamped(rounded(y * (1.0f / (kQ4Fraction * factor))), kQ4SmallestCode, kQ4LargestCode);
}

/// For numbers y[input of the part][part].
inline void choose_q4_factors(const OfParts (&y)[kQ4Part], OfParts& factors) {
  OfParts middle = {}, least;
  for (float& error : least) error = 0x1p30f;  // more than any
  for (const OfParts& inputs : y) {
    for (size_t p = 0; p < kQ4Parts; ++p) {
      const float magnitude = inputs[p] < 0.0f ? -inputs[p] : inputs[p];
      middle[p] = magnitude > middle[p] ? magnitude : middle[p];
    }
  }
  for (size_t p = 0; p < kQ4Parts; ++p) middle[p] = rounded(middle[p] / (7.5f * kQ4Fraction));
  for (int candidate = -2; candidate <= 1; ++candidate) {
    OfParts factor, errors = {};
    for (size_t p = 0; p < kQ4Parts; ++p) {
      factor[p] = clamped(middle[p] + static_cast<float>(candidate), 1.0f, kQ4LargestFactor);
    }
    for (const OfParts& inputs : y) {
      for (size_t p = 0; p < kQ4Parts; ++p) {
        const float error = inputs[p] - q4_code(inputs[p], factor[p]) * (kQ4Fraction * factor[p]);
        errors[p] += error * error;
      }
    }
    for (size_t p = 0; p < kQ4Parts; ++p) {
      const bool better = errors[p] < least[p];
      factors[p] = better ? factor[p] : factors[p];
      least[p] = better ? errors[p] : least[p];
    }
  }
}

/// As q4.h says.
inline void round_q4(const float* weights, size_t count, Q4Group& group) {
  float padded[kQ8Group] = {};
  __builtin_memcpy(padded, weights, 4 * count);
  float largest = 0.0f;
  for (const float weight : padded) {
    const float magnitude = weight < 0.0f ? -weight : weight;
    largest = magnitude > largest ? magnitude : largest;
  }
  const auto bits = __builtin_bit_cast(uint32_t, largest / kQ4ScaleSteps);
  const uint32_t scale_bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  group.scale = __builtin_bit_cast(float, scale_bits);
  const float scale = scale_bits == 0 ? 1.0f : group.scale;
  OfParts y[kQ4Part], factors = {};
  for (size_t i = 0; i < kQ8Group; ++i) {
    constexpr float kMost = 127.0f;
    const float steps = scale_bits == 0 ? 0.0f : clamped(padded[i] / scale, -kMost, kMost);
    y[i % kQ4Part][i / kQ4Part] = rounded(steps * kQ4Fraction);
  }
  choose_q4_factors(y, factors);
  for (size_t p = 0; p < kQ4Parts; ++p) group.factors[p] = static_cast<uint8_t>(factors[p]);
  for (size_t i = 0; i < kQ8Group; ++i) {
    const float code = q4_code(y[i % kQ4Part][i / kQ4Part], factors[i / kQ4Part]);
    group.codes[i] = static_cast<int8_t>(code);
  }
}

template <class Isa>
void silu_multiply(const float* gate, const float* up, size_t count, float* out) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  const auto apply = [](F32 g, F32 u) { return g / (1.0f + exp<Isa::kLanes>(-g)) * u; };
  size_t i = 0;
  for (; i + Isa::kLanes <= count; i += Isa::kLanes) {
    store(out + i, apply(load<F32>(gate + i), load<F32>(up + i)));
  }
  if (i == count) return;
  F32 g{}, u{};
  __builtin_memcpy(&g, gate + i, 4 * (count - i));
  __builtin_memcpy(&u, up + i, 4 * (count - i));
  const F32 last = apply(g, u);
  __builtin_memcpy(out + i, &last, 4 * (count - i));
}

}  // namespace
}  // namespace pregate::compute::cpu
