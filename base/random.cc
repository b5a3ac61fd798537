#include "base/random.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace pregate {

double Random::next_double() { return static_cast<double>(next_u64() >> 11) * 0x1.0p-53; }

uint64_t Random::next_below(uint64_t bound) {
  PREGATE_CHECK(bound > 0);
  // Draws from the incomplete last cycle would favour small values, so they are thrown away.
  const uint64_t limit = bound * (UINT64_MAX / bound);
  uint64_t draw = next_u64();
  while (draw >= limit) draw = next_u64();
  return draw % bound;
}

double Random::next_normal() {
  const double u = 1.0 - next_double();
  const double v = next_double();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

uint64_t seed_from_system() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace pregate
