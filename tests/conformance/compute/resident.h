// Rows of tests in a back end's row memory.
#pragma once

#include <utility>

#include "tests/conformance/compute/fixture.h"

namespace pregate::compute {

/// Numbers in row memory, `margin` columns apart from row to row, which hold the margin's value.
class Resident {
 public:
  Resident(Subject& subject, const Numbers& numbers, size_t margin = 0)
      : backend_(*subject), cols_(numbers.cols), wide_(numbers.rows, numbers.cols + margin) {
    std::ranges::fill(wide_.data, kMargin);
    for (size_t r = 0; r < numbers.rows; ++r) {
      std::ranges::copy(numbers.view().row(r), wide_.view().row(r).begin());
    }
    memory_ = backend_.allocate_rows(bytes()).value();
    backend_.write(memory_->data(), wide_.data.data(), bytes());
  }

  Matrix<float> view() const {
    return {reinterpret_cast<float*>(memory_->data()), wide_.rows, cols_, wide_.cols};
  }
  std::span<const float> vector() const { return {view().data, cols_}; }

  Numbers read() {
    backend_.read(wide_.data.data(), memory_->data(), bytes());
    Numbers numbers(wide_.rows, cols_);
    for (size_t r = 0; r < wide_.rows; ++r) {
      const auto row = std::as_const(wide_).view().row(r);
      std::ranges::copy(row.first(cols_), numbers.view().row(r).begin());
      for (const float value : row.subspan(cols_)) EXPECT_EQ(value, kMargin);
    }
    return numbers;
  }

 private:
  static constexpr float kMargin = 77.0f;

  size_t bytes() const { return wide_.data.size() * sizeof(float); }

  Backend& backend_;
  const size_t cols_;
  Numbers wide_;
  std::unique_ptr<RowMemory> memory_;
};

/// Encoded rows in row memory.
class ResidentRows {
 public:
  ResidentRows(Subject& subject, const Encoded& encoded)
      : encoded_(encoded), memory_(subject->allocate_rows(encoded.bytes.size()).value()) {
    subject->write(memory_->data(), encoded.bytes.data(), encoded.bytes.size());
  }
  EncodedRows view() const {
    return {encoded_.format, encoded_.rows, encoded_.cols, memory_->data()};
  }

 private:
  const Encoded& encoded_;
  std::unique_ptr<RowMemory> memory_;
};

}  // namespace pregate::compute
