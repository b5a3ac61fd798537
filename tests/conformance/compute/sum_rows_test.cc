// Rows that are added up, and encoded rows taken out of many: in host memory and in row memory.
#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/conformance/compute/resident.h"

namespace pregate::compute {
namespace {

std::vector<uint32_t> bits_of(const Numbers& numbers) {
  std::vector<uint32_t> bits;
  for (const float value : numbers.data) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

class SumRowsTest : public BackendTest {
 protected:
  using Lists = std::vector<std::vector<uint32_t>>;

  /// Row i is the sum of rows lists[i] of x.
  static Numbers expected(const Numbers& x, const Lists& lists) {
    Numbers sums(lists.size(), x.cols);
    for (size_t r = 0; r < lists.size(); ++r) {
      for (size_t i = 0; i < lists[r].size(); ++i) {
        const auto addend = x.view().row(lists[r][i]);
        const auto sum = sums.view().row(r);
        for (size_t col = 0; col < x.cols; ++col) {
          sum[col] = i == 0 ? addend[col] : sum[col] + addend[col];
        }
      }
    }
    return sums;
  }

  /// Lists that are no more once the call has returned.
  void sum_up(Matrix<const float> x, const Lists& lists, Matrix<float> out) {
    std::vector<const float*> addends;
    std::vector<uint32_t> ends;
    for (const auto& list : lists) {
      for (const uint32_t row : list) addends.push_back(x.row(row).data());
      ends.push_back(uint32_t(addends.size()));
    }
    subject_->sum_rows({ends, addends}, out);
    std::ranges::fill(addends, nullptr);
    std::ranges::fill(ends, 1u << 30);
  }

  void expect_sums(const Numbers& x, const Lists& lists, size_t margin = 0) {
    const auto expected_bits = bits_of(expected(x, lists));
    Numbers on_host(lists.size(), x.cols);
    std::ranges::fill(on_host.data, kNan);
    sum_up(x.view(), lists, on_host.view());
    EXPECT_EQ(bits_of(on_host), expected_bits);
    Numbers before(lists.size(), x.cols);
    std::ranges::fill(before.data, kNan);
    const Resident from(subject_, x, margin);
    Resident out(subject_, before, margin);
    sum_up(from.view(), lists, out.view());
    EXPECT_EQ(bits_of(out.read()), expected_bits);
  }

  Numbers random(size_t rows, size_t cols) { return Numbers::random(random_, rows, cols); }
  /// Each of up to `most` addends.
  Lists random_lists(size_t count, size_t most, size_t num_rows) {
    Lists lists(count);
    for (auto& list : lists) {
      list.resize(random_.next_below(most + 1));
      for (uint32_t& row : list) row = uint32_t(random_.next_below(num_rows));
    }
    return lists;
  }
};

TEST_P(SumRowsTest, AddsUpAnyNumberOfRows) {
  const Lists lists = {{0}, {}, {1, 2}, {5, 4, 3, 2, 1, 0}, {2, 2, 2}, {}, {0, 1, 2, 3, 4}};
  for (const size_t cols : {1, 3, 64, 130, 515, 2048}) {
    for (const size_t margin : {0, 1, 4}) {
      SCOPED_TRACE(fmt::format("{} columns, {} between rows", cols, margin));
      expect_sums(random(6, cols), lists, margin);
    }
  }
}

TEST_P(SumRowsTest, AddsUpManyRowsOfManyAddends) {
  expect_sums(random(300, 260), random_lists(500, 9, 300));
  expect_sums(random(50, 33), random_lists(3, 400, 50), 2);
  expect_sums(random(3, 33), Lists(700));
}

/// Another order gives 0.
TEST_P(SumRowsTest, AddsInTheOrderGiven) {
  Numbers x(3, 5);
  for (size_t col = 0; col < 5; ++col) {
    for (size_t row = 0; row < 3; ++row) x.view().row(row)[col] = row == 2 ? 1.0f : 1e8f;
    x.view().row(1)[col] = -1e8f;
  }
  expect_sums(x, {{0, 1, 2}, {0, 2, 1}, {2, 0, 1}});
  EXPECT_EQ(expected(x, {{0, 1, 2}}).data.front(), 1.0f);
  EXPECT_EQ(expected(x, {{0, 2, 1}}).data.front(), 0.0f);
}

TEST_P(SumRowsTest, LeavesTheBitsOfASingleOne) {
  Numbers x(2, 6);
  const uint32_t unusual[] = {0x80000000, 0x7f800001, 0xffc12345, 0x7fc00000, 1, 0xff800000};
  for (size_t col = 0; col < 6; ++col) x.data[col] = std::bit_cast<float>(unusual[col]);
  std::ranges::fill(x.view().row(1), -0.0f);
  expect_sums(x, {{0}, {1}, {1, 1}, {1, 1, 1}});
}

TEST_P(SumRowsTest, WritesNothingBesideWhatItWasGiven) {
  const Numbers x = random(4, 7);
  const Lists lists = {{3, 1}, {0}};
  Numbers wide(2, 10);
  std::ranges::fill(wide.data, 5.0f);
  sum_up(x.view(), lists, {wide.data.data() + 1, 2, 7, 10});
  for (size_t row = 0; row < 2; ++row) {
    EXPECT_EQ(wide.view().row(row)[0], 5.0f);
    EXPECT_EQ(wide.view().row(row)[8], 5.0f);
    EXPECT_TRUE(
        std::ranges::equal(wide.view().row(row).subspan(1, 7), expected(x, lists).view().row(row)));
  }
}

TEST_P(SumRowsTest, OfNoRowsIsNoWork) {
  Resident out(subject_, random(2, 8));
  const Numbers before = out.read();
  subject_->sum_rows({}, out.view().slice_rows(0, 0));
  subject_->sum_rows({}, {});
  EXPECT_EQ(out.read(), before);
}

INSTANTIATE_TEST_SUITE_P(Backends, SumRowsTest, all_backends(), backend_test_name);

class TakeEncodedTest : public FormatTest {
 protected:
  void expect_taken(const Encoded& x, const std::vector<uint32_t>& rows) {
    const ResidentRows there(subject_, x);
    const size_t bytes = rows.size() * encoded_row_bytes(x.format, x.cols) + kBehind;
    const auto memory = subject_->allocate_rows(bytes).value();
    for (const size_t offset : {0, 4}) {  // of rows that are aligned to more than they need
      std::vector<std::byte> out(bytes, kUntouched), expected = out;
      std::ranges::copy(taken_of(x, rows), expected.begin() + ptrdiff_t(offset));
      subject_->write(memory->data(), out.data(), bytes);
      take(there.view(), rows, memory->data() + offset);
      take(x.view(), rows, out.data() + offset);
      EXPECT_EQ(out, expected);
      subject_->read(out.data(), memory->data(), bytes);
      EXPECT_EQ(out, expected);
    }
  }

 private:
  static constexpr std::byte kUntouched{0xab};
  static constexpr size_t kBehind = 24;

  static std::vector<std::byte> taken_of(const Encoded& x, const std::vector<uint32_t>& rows) {
    const size_t row_bytes = encoded_row_bytes(x.format, x.cols);
    std::vector<std::byte> taken;
    for (const uint32_t row : rows) {
      const auto first = x.bytes.begin() + ptrdiff_t(row * row_bytes);
      taken.insert(taken.end(), first, first + ptrdiff_t(row_bytes));
    }
    return taken;
  }

  /// By a list that is no more once the call has returned.
  void take(const EncodedRows& x, std::vector<uint32_t> rows, std::byte* out) {
    subject_->take_encoded(x, rows, out);
    std::ranges::fill(rows, 1u << 30);
  }
};

TEST_P(TakeEncodedTest, TakesRowsInAnyOrder) {
  for (const size_t cols : {1, 7, 64, 130, 512, 515, 2048}) {
    SCOPED_TRACE(cols);
    const Encoded x(*subject_, Numbers::random(random_, 9, cols), format());
    expect_taken(x, {8, 0, 3, 3, 5});
    expect_taken(x, {4});
    expect_taken(x, {});
  }
}

TEST_P(TakeEncodedTest, TakesManyRows) {
  const Encoded x(*subject_, Numbers::random(random_, 90, 640), format());
  std::vector<uint32_t> rows(400);
  for (uint32_t& row : rows) row = uint32_t(random_.next_below(x.rows));
  expect_taken(x, rows);
}

TEST_P(TakeEncodedTest, OfNoRowsIsNoWork) {
  subject_->take_encoded({format(), 0, 8, nullptr}, {}, nullptr);
}

INSTANTIATE_TEST_SUITE_P(Backends, TakeEncodedTest, all_formats(), format_test_name);

}  // namespace
}  // namespace pregate::compute
