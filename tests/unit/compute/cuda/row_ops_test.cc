// What each kind of device does to rows, against plain loops.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "compute/reference/backend.h"
#include "tests/unit/compute/cuda/stream_fixture.h"

namespace pregate::compute::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kSubnormal = std::numeric_limits<float>::denorm_min();

const RowShape kShapes[] = {
    {1, 1, 1, 0},     {3, 7, 7, 1},       {2, 100, 100, 0},   {5, 100, 103, 2},   {2, 300, 304, 0},
    {3, 300, 301, 3}, {2, 2048, 2048, 0}, {2, 2048, 2051, 1}, {1, 2050, 2052, 0},
};

class RowOps : public StreamTest {};

INSTANTIATE_TEST_SUITE_P(Devices, RowOps, ::testing::ValuesIn(stream_devices()), stream_test_name);

// Norm.

struct Groups {
  uint32_t width = 0, count = 0;
};
/// Some that a warp norms and some that take a block, of one pass and of more.
constexpr Groups kGroups[] = {{1, 3},   {7, 5},   {64, 9},   {100, 1},  {300, 2},
                              {512, 2}, {514, 2}, {2048, 1}, {2048, 2}, {5001, 1}};
constexpr float kEpsilon = 1e-5f;

void norm_group(const float* x, const std::vector<float>& weight, float* y) {
  double sum_squares = 0.0;
  for (size_t i = 0; i < weight.size(); ++i) sum_squares += double(x[i]) * double(x[i]);
  const double scale = 1.0 / std::sqrt(sum_squares / double(weight.size()) + double(kEpsilon));
  for (size_t i = 0; i < weight.size(); ++i) y[i] = float(double(x[i]) * scale * double(weight[i]));
}

TEST_P(RowOps, Norm) {
  for (const auto& [width, count] : kGroups) {
    SCOPED_TRACE(testing::Message() << count << " groups of " << width);
    const uint32_t cols = width * count;
    for (const RowShape& from : {RowShape{3, cols, cols, 0}, RowShape{3, cols, cols + 3, 1}}) {
      const RowShape to{3, cols, cols + 2, 2};
      const auto x = random_numbers(from.size()), weight = random_numbers(width);
      std::vector<float> y(to.size(), kNan);
      NormArgs args{.x = upload(x) + from.offset,
                    .x_stride = from.stride,
                    .y = upload(y) + to.offset,
                    .y_stride = to.stride,
                    .weight = upload(weight),
                    .width = width,
                    .num_groups = count,
                    .num_rows = from.rows,
                    .epsilon = kEpsilon};
      stream().norm(args);
      for (uint32_t row = 0; row < from.rows; ++row) {
        for (uint32_t g = 0; g < count; ++g) {
          norm_group(&x[from.at(row, g * width)], weight, &y[to.at(row, g * width)]);
        }
      }
      const auto actual = download(args.y - to.offset, to.size());
      expect_near(actual, y, 2e-6f);

      float* const in_place = upload(x) + from.offset;
      args.x = args.y = in_place;
      args.y_stride = from.stride;
      stream().norm(args);
      auto expected = x;
      for (uint32_t row = 0; row < from.rows; ++row) {
        std::copy_n(&actual[to.at(row)], cols, &expected[from.at(row)]);
      }
      expect_same_bits(download(in_place - from.offset, from.size()), expected);
    }
  }
}

TEST_P(RowOps, NormOfARowIsItsOwn) {
  for (const uint32_t width : {300u, 2046u}) {
    const RowShape shape{5, width, width + 1, 0};
    const auto x = random_numbers(shape.size());
    const float* const weight = upload(random_numbers(width));
    const auto norm = [&](const std::vector<float>& rows, uint32_t num_rows) {
      float* const y = upload(rows);
      stream().norm({.x = y,
                     .x_stride = shape.stride,
                     .y = y,
                     .y_stride = shape.stride,
                     .weight = weight,
                     .width = width,
                     .num_groups = 1,
                     .num_rows = num_rows});
      return download(y, rows.size());
    };
    const auto together = norm(x, shape.rows);
    for (uint32_t row = 0; row < shape.rows; ++row) {
      const auto row_of = [&](const std::vector<float>& rows) {
        return std::vector(rows.begin() + shape.at(row), rows.begin() + shape.at(row, width));
      };
      expect_same_bits(norm(row_of(x), 1), row_of(together));
    }
  }
}

// Encode.

constexpr WeightFormat kRowFormats[] = {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kQ8};
constexpr std::byte kUntouched{0xab};

class Encoding : public RowOps {
 protected:
  void expect_reference(const std::vector<float>& x, const RowShape& shape, WeightFormat format) {
    const size_t row_bytes = encoded_row_bytes(format, shape.cols);
    // Aligned to 4 bytes and no more, and something behind that is not to be touched.
    std::vector<std::byte> expected(4 + shape.rows * row_bytes + 8, kUntouched);
    std::byte* const out = upload(expected);
    stream().encode_rows({.format = format,
                          .x = upload(x) + shape.offset,
                          .stride = shape.stride,
                          .cols = shape.cols,
                          .num_rows = shape.rows,
                          .out = out + 4});
    for (size_t row = 0; row < shape.rows; ++row) {
      reference::encode_row({&x[shape.at(row)], shape.cols}, format,
                            expected.data() + 4 + row * row_bytes);
    }
    EXPECT_EQ(download(out, expected.size()), expected) << "format " << int(format);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, Encoding, ::testing::ValuesIn(stream_devices()),
                         stream_test_name);

TEST_P(Encoding, IsThatOfTheReferenceToTheBit) {
  for (const RowShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.cols << " columns, " << shape.stride << " apart");
    const auto x = random_numbers(shape.size());
    for (const WeightFormat format : kRowFormats) expect_reference(x, shape, format);
  }
}

TEST_P(Encoding, OfUnusualNumbers) {
  const std::vector<std::vector<float>> rows = {
      {0.0f, -0.0f, 0.0f},                                                           // no scale
      {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -0.0f},                        // ties of q8
      {0x1.01p0f, 0x1.03p0f, -0x1.01p0f, -0x1.03p0f, 0x1.010002p0f, 0x1.00fffep0f},  // of bf16
      {kSubnormal, -kSubnormal, 3 * kSubnormal},                                     // scale zero
      {191 * kSubnormal, 190 * kSubnormal, -96 * kSubnormal},  // a scale that is subnormal
      {std::numeric_limits<float>::max(), 1.0f},               // bf16: infinity
      {kInfinity, 1.0f},
      {-kInfinity, kNan, -1.0f},
      {1.0f, std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0xffc12345u)},
  };
  const RowShape shape{uint32_t(rows.size()), 260, 261, 0};
  std::vector<float> x(shape.size(), 0.0f);
  for (size_t row = 0; row < rows.size(); ++row) {
    for (const size_t first : {0, 5, 130, 250})
      std::ranges::copy(rows[row], &x[shape.at(row, first)]);
  }
  for (const WeightFormat format : kRowFormats) expect_reference(x, shape, format);
}

// Add, take.

TEST_P(RowOps, Add) {
  for (const RowShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.cols << " columns, " << shape.stride << " apart");
    const RowShape from{shape.rows, shape.cols, shape.cols + 1, 0};
    auto y = random_numbers(shape.size());
    const auto x = random_numbers(from.size());
    float* const on_device = upload(y);
    stream().add({.y = on_device + shape.offset,
                  .y_stride = shape.stride,
                  .x = upload(x),
                  .x_stride = from.stride,
                  .cols = shape.cols,
                  .num_rows = shape.rows});
    for (size_t row = 0; row < shape.rows; ++row) {
      for (size_t i = 0; i < shape.cols; ++i) y[shape.at(row, i)] += x[from.at(row, i)];
    }
    expect_same_bits(download(on_device, shape.size()), y);
  }
}

TEST_P(RowOps, AddGated) {
  const std::vector<float> gates = {0.0f, 1.5f, -1.5f, 20.0f, -20.0f, 100.0f, -100.0f};
  const RowShape shape{uint32_t(gates.size()), 103, 104, 0};
  std::vector<float> y(shape.size(), 0.0f);
  const auto x = random_numbers(shape.size());
  float* const on_device = upload(y);
  stream().add({.y = on_device,
                .y_stride = shape.stride,
                .x = upload(x),
                .x_stride = shape.stride,
                .gate = upload(gates),
                .cols = shape.cols,
                .num_rows = shape.rows});
  for (size_t row = 0; row < shape.rows; ++row) {
    const double gate = 1.0 / (1.0 + std::exp(-double(gates[row])));
    for (size_t i = 0; i < shape.cols; ++i) {
      y[shape.at(row, i)] = float(gate * double(x[shape.at(row, i)]));
    }
  }
  const auto actual = download(on_device, shape.size());
  for (size_t i = 0; i < y.size(); ++i) {
    ASSERT_NEAR(actual[i], y[i], 1e-6f * std::fabs(y[i]) + 1e-37f) << "number " << i;
  }
}

TEST_P(RowOps, TakeRows) {
  const std::vector<uint32_t> taken = {4, 0, 2, 2, 4, 3};
  for (const RowShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.cols << " columns, " << shape.stride << " apart");
    const RowShape from{5, shape.cols, shape.stride, shape.offset};
    const RowShape to{uint32_t(taken.size()), shape.cols, shape.cols + 3, 1};
    const auto x = random_numbers(from.size());
    std::vector<float> y(to.size(), kNan);
    float* const on_device = upload(y);
    stream().take_rows({.y = on_device + to.offset,
                        .y_stride = to.stride,
                        .x = upload(x) + from.offset,
                        .x_stride = from.stride,
                        .rows = upload(taken),
                        .cols = shape.cols,
                        .num_rows = to.rows});
    for (size_t row = 0; row < taken.size(); ++row) {
      std::copy_n(&x[from.at(taken[row])], shape.cols, &y[to.at(row)]);
    }
    expect_same_bits(download(on_device, to.size()), y);
  }
}

/// Of 0 to 9 addends a row, which lie where RowShape says; rows are of several sums.
TEST_P(RowOps, SumRows) {
  constexpr uint32_t kMostAddends = 9, kNumRows = 12;
  for (const RowShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.cols << " columns, " << shape.stride << " apart");
    const RowShape from{7, shape.cols, shape.stride, shape.offset};
    const RowShape to{kNumRows, shape.cols, shape.cols + 3, 1};
    const auto x = random_numbers(from.size());
    const float* const there = upload(x);
    std::vector<float> sums(to.size(), kNan);
    float* const out = upload(sums);
    std::vector<const float*> addends;
    std::vector<uint32_t> ends;
    for (uint32_t row = 0; row < kNumRows; ++row) {
      std::fill_n(&sums[to.at(row)], to.cols, 0.0f);
      for (uint32_t i = 0; i < row * 5 % (kMostAddends + 1); ++i) {
        const size_t first = from.at((row + i * i) % from.rows);
        for (size_t col = 0; col < to.cols; ++col) sums[to.at(row, col)] += x[first + col];
        addends.push_back(there + first);
      }
      ends.push_back(uint32_t(addends.size()));
    }
    stream().sum_rows({.out = out + to.offset,
                       .stride = to.stride,
                       .addends = upload(addends),
                       .ends = upload(ends),
                       .cols = to.cols,
                       .num_rows = kNumRows});
    expect_same_bits(download(out, to.size()), sums);
  }
}

/// Rows of each kind of word, one that is longer than a block's threads are many, and memory that
/// is aligned to less than rows are.
TEST_P(RowOps, TakeEncoded) {
  const std::vector<uint32_t> taken = {4, 0, 2, 2, 4, 3};
  constexpr size_t kBehind = 32;
  constexpr std::pair<size_t, size_t> kOffsets[] = {{0, 0}, {4, 0}, {0, 4}, {16, 16}};
  for (const uint32_t row_bytes : {2, 6, 4, 132, 16, 256, 4096, 4098, 4100}) {
    for (const auto& [from, to] : kOffsets) {
      SCOPED_TRACE(testing::Message() << row_bytes << " bytes from " << from << " to " << to);
      std::vector<std::byte> x(from + 5 * row_bytes);
      for (std::byte& byte : x) byte = std::byte(random_.next_below(256));
      std::vector<std::byte> expected(to + taken.size() * row_bytes + kBehind, kUntouched);
      std::byte* const out = upload(expected);
      stream().take_encoded({.out = out + to,
                             .x = upload(x) + from,
                             .rows = upload(taken),
                             .row_bytes = row_bytes,
                             .num_rows = uint32_t(taken.size())});
      for (size_t i = 0; i < taken.size(); ++i) {
        std::copy_n(&x[from + taken[i] * row_bytes], row_bytes, &expected[to + i * row_bytes]);
      }
      EXPECT_EQ(download(out, expected.size()), expected);
    }
  }
}

TEST_P(RowOps, OfNoRowsThereIsNothingToDo) {
  stream().norm({.width = 8, .num_groups = 1});
  stream().encode_rows({.format = WeightFormat::kQ8, .cols = 8});
  stream().add({.cols = 8});
  stream().take_rows({.cols = 8});
  stream().sum_rows({.cols = 8});
  stream().take_encoded({.row_bytes = 8});
  synchronize();
}

}  // namespace
}  // namespace pregate::compute::cuda
