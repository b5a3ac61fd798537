#include "compute/f8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "compute/source.h"

namespace pregate::compute {
namespace {

/// Returns the scale.
float round_group(std::span<const float> numbers, uint8_t* codes) {
  float largest = 0.0f;
  for (const float number : numbers) largest = std::max(largest, std::fabs(number));
  const float scale = largest / kLargestF8;
  const float divisor = scale == 0.0f ? 1.0f : scale;
  for (size_t i = 0; i < numbers.size(); ++i) codes[i] = f32_to_f8(numbers[i] / divisor);
  return scale;
}

}  // namespace

void keep_f8_row(const SourceMatrix& source, size_t row, std::span<const float> numbers,
                 std::byte* out) {
  const bool is_kept = is_kept_in_f8(source.dtype, source.scales);
  const size_t cols = numbers.size();
  const size_t groups = (cols + kQ8Group - 1) / kQ8Group;
  auto* const codes = reinterpret_cast<uint8_t*>(out + groups * sizeof(float));
  if (is_kept) std::memcpy(codes, source.data + row * cols, cols);
  std::fill(codes + cols, codes + groups * kQ8Group, uint8_t{0});
  for (size_t g = 0; g < groups; ++g) {
    const size_t first = g * kQ8Group;
    const auto group = numbers.subspan(first, std::min(kQ8Group, cols - first));
    const float scale =
        is_kept ? block_scale(source, row, first) : round_group(group, codes + first);
    std::memcpy(out + g * sizeof(float), &scale, sizeof(scale));
  }
}

}  // namespace pregate::compute
