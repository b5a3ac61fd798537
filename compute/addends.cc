#include "compute/addends.h"

#include <numeric>

#include "base/check.h"

namespace pregate::compute {

RowSums Addends::by_row(size_t num_rows) {
  ends_.assign(num_rows, 0);
  for (const Addend& addend : addends_) {
    PREGATE_CHECK(addend.row < num_rows);
    ++ends_[addend.row];
  }
  // Where each row's begin; once all are in their places, where they end.
  std::exclusive_scan(ends_.begin(), ends_.end(), ends_.begin(), 0u);
  sorted_.resize(addends_.size());
  for (const Addend& addend : addends_) sorted_[ends_[addend.row]++] = addend.numbers;
  return {ends_, sorted_};
}

}  // namespace pregate::compute
