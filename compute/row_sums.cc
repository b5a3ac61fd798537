#include "compute/row_sums.h"

#include <algorithm>

namespace pregate::compute {

bool fits(const RowSums& sums, const Matrix<float>& out) {
  const size_t num_addends = sums.ends.empty() ? 0 : sums.ends.back();
  return sums.ends.size() == out.rows && sums.addends.size() == num_addends &&
         std::ranges::is_sorted(sums.ends);
}

void sum_up(std::span<const float* const> addends, std::span<float> sum) {
  if (addends.empty()) {
    std::ranges::fill(sum, 0.0f);
    return;
  }
  std::copy_n(addends.front(), sum.size(), sum.data());
  for (const float* const addend : addends.subspan(1)) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += addend[i];
  }
}

}  // namespace pregate::compute
