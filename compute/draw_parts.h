// What a draw is made of, on the host and on devices. What is added up are whole numbers, so that
// the order of addition means nothing, and no operation is rounded otherwise on one than on the
// other.
#pragma once

#include <bit>
#include <cstdint>

namespace pregate::compute {

/// By which a difference of logits becomes one of binary logarithms.
constexpr float scale_of(float temperature) { return 1.44269504f / temperature; }

/// How much less likely a logit is than the largest: a binary logarithm, in units of 2^-25. Of what
/// is never drawn kMaxDeficit.
constexpr uint32_t deficit_of(float logit, float largest, float scale) {
  constexpr float kMost = 40.0f;
  const float difference = (largest - logit) * scale;
  const float limited = difference < kMost ? difference : kMost;      // of a NaN too
  const float deficit = logit == largest ? 0.0f : limited * 0x1p25f;  // of infinite ones too
  return static_cast<uint32_t>(static_cast<int32_t>(deficit));
}
inline constexpr uint32_t kMaxDeficit = uint32_t{40} << 25;
/// A deficit is looked for by its digits.
inline constexpr uint32_t kDigitBits = 11, kDigits = 3;
static_assert(kMaxDeficit < uint64_t{1} << (kDigitBits * kDigits));

/// 2^(-deficit * 2^-25), to 3e-7 of it; 1 of 0, 0 of kMaxDeficit.
constexpr float likelihood(uint32_t deficit) {
  const auto fraction = static_cast<int32_t>(deficit % (1u << 25));
  const float x = static_cast<float>(fraction) * 0x1p-25f;
  // 2^-x, interpolated at Chebyshev nodes of [0, 1].
  float power = 0.000109328925f;
  power = power * x - 0.0012755401f;
  power = power * x + 0.00957985967f;
  power = power * x - 0.0554909334f;
  power = power * x + 0.240224332f;
  power = power * x - 0.693147063f;
  power = power * x + 1.0f;
  const float likely = power * std::bit_cast<float>((127 - (deficit >> 25)) << 23);
  return deficit < kMaxDeficit ? likely : 0.0f;
}

/// What is added up: of kMaxDrawable less than 2^64, and at least 1 unless the likelihood is 0.
constexpr uint64_t mass_of(float likelihood) {
  return static_cast<uint64_t>(static_cast<int64_t>(likelihood * 0x1p41f));
}

/// The least of `total`, 1 at least, that is `fraction` of it.
constexpr uint64_t share_of(double fraction, uint64_t total) {
  const double exact = fraction * static_cast<double>(total);
  auto share = static_cast<uint64_t>(exact);
  if (static_cast<double>(share) < exact) ++share;
  if (share > total) return total;
  return share > 0 ? share : 1;
}

/// Which of `total`, 1 at least, lies at this place.
constexpr uint64_t unit_at(double place, uint64_t total) {
  const auto unit = static_cast<uint64_t>(place * static_cast<double>(total));
  return unit < total ? unit : total - 1;
}

}  // namespace pregate::compute
