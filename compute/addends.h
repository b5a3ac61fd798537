// Makes a RowSums of addends that come in any order of rows.
#pragma once

#include <vector>

#include "compute/row_sums.h"

namespace pregate::compute {

class Addends {
 public:
  void reserve(size_t addends) { addends_.reserve(addends); }
  /// `numbers` after what the row has been given before.
  void add(uint32_t row, const float* numbers) { addends_.push_back({row, numbers}); }
  /// Of all rows below `num_rows`, which those added are. Valid until the next call of anything.
  RowSums by_row(size_t num_rows);

 private:
  struct Addend {
    uint32_t row;
    const float* numbers;
  };
  std::vector<Addend> addends_;
  std::vector<uint32_t> ends_;
  std::vector<const float*> sorted_;
};

}  // namespace pregate::compute
