#include "model/synthetic/random_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "compute/number.h"

namespace pregate::model {
namespace {

/// Spreads a seed over 64 bits (splitmix64, Steele et al. 2014), never zero.
uint64_t spread(uint64_t& seed) {
  seed += 0x9E3779B97F4A7C15u;
  uint64_t z = seed;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return (z ^ z >> 31) | 1;
}

// A uniform int16 has standard deviation 65536 / sqrt(12).
constexpr float kInt16Deviation = 65536.0f / 3.4641016f;

}  // namespace

RandomValues::RandomValues(uint64_t seed, Distribution distribution, compute::DType dtype)
    : mean_(distribution.mean), step_(distribution.deviation / kInt16Deviation), dtype_(dtype) {
  for (uint64_t& state : state_) state = spread(seed);
}

// xorshift64 (Marsaglia 2003).
uint64_t RandomValues::next_lane(size_t lane) {
  uint64_t x = state_[lane];
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return state_[lane] = x;
}

template <typename Stored, typename Convert>
void RandomValues::fill_as(std::span<std::byte> out, Convert convert) {
  const size_t num_values = out.size() / sizeof(Stored);
  for (size_t done = 0; done < num_values; done += kBlockValues) {
    uint64_t words[kLanes];
    for (size_t lane = 0; lane < kLanes; ++lane) words[lane] = next_lane(lane);
    int16_t raw[kBlockValues];
    static_assert(sizeof(raw) == sizeof(words));
    std::memcpy(raw, words, sizeof(raw));
    Stored values[kBlockValues];
    for (size_t i = 0; i < kBlockValues; ++i) values[i] = convert(mean_ + step_ * float(raw[i]));
    const size_t count = std::min(kBlockValues, num_values - done);
    std::memcpy(out.data() + done * sizeof(Stored), values, count * sizeof(Stored));
  }
}

void RandomValues::fill(std::span<std::byte> out) {
  switch (dtype_) {
    case compute::DType::kF32:
      return fill_as<float>(out, [](float value) { return value; });
    case compute::DType::kBf16:
      return fill_as<uint16_t>(out, compute::f32_to_bf16);
    case compute::DType::kF16:
      return fill_as<uint16_t>(out, compute::f32_to_f16);
    case compute::DType::kF8:
      return fill_as<uint8_t>(out, compute::f32_to_f8);
  }
}

}  // namespace pregate::model
