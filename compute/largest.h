// Which number of a row is the largest.
#pragma once

#include <cstdint>
#include <span>

namespace pregate::compute {

/// A NaN is below all others; -infinity if there is nothing else.
float largest(std::span<const float> numbers);

/// Where that is: of equal ones, as both zeros are, the first; 0 if all are NaN. Of one or more.
uint32_t find_largest(std::span<const float> numbers);

}  // namespace pregate::compute
