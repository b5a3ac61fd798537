#include "compute/largest.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace pregate::compute {

// In lanes, which a compiler makes vectors of: a vocabulary one by one takes many times as long.
float largest(std::span<const float> numbers) {
  constexpr size_t kLanes = 32;
  float lanes[kLanes];
  std::ranges::fill(lanes, -std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + kLanes <= numbers.size(); i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) {
      lanes[l] = numbers[i + l] > lanes[l] ? numbers[i + l] : lanes[l];
    }
  }
  float most = *std::ranges::max_element(lanes);
  for (; i < numbers.size(); ++i) most = std::max(most, numbers[i]);
  return most;
}

uint32_t find_largest(std::span<const float> numbers) {
  PREGATE_CHECK(!numbers.empty());
  const auto at = std::ranges::find(numbers, largest(numbers));
  return at == numbers.end() ? 0 : static_cast<uint32_t>(at - numbers.begin());
}

}  // namespace pregate::compute
