#include <cmath>
#include <limits>

#include "compute/number.h"
#include "compute/weight_bytes.h"
#include "tests/conformance/compute/fixture.h"

namespace pregate::compute {
namespace {

struct LinearShape {
  size_t rows, in, out;
};

class LinearTest : public FormatTest {
 protected:
  /// Both sides multiply the same rounded numbers; only the order of the f32 sums differs. In q8
  /// and q4 the order is part of the format (group by group), so the bits are equal.
  float tolerance() const { return arithmetic_of(format()) == WeightFormat::kQ8 ? 0.0f : 1e-5f; }

  Numbers multiply(Subject& subject, const Numbers& weights, const Numbers& x,
                   std::span<const float> bias = {}) const {
    const auto packed = subject->pack(weights.source(), format()).value();
    Numbers y(x.rows, weights.rows);
    subject->linear(Encoded(*subject, x, format()).view(), *packed, bias, y.view());
    return y;
  }
};

TEST_P(LinearTest, AgreesWithTheReferenceAtOddSizes) {
  const LinearShape shapes[] = {{1, 1, 1},     {1, 100, 37},   {2, 128, 16},
                                {3, 129, 33},  {5, 300, 65},   {13, 64, 100},
                                {70, 257, 48}, {300, 130, 17}, {2, 512, 70}};
  for (const auto& [rows, in, out] : shapes) {
    SCOPED_TRACE(fmt::format("{} rows, {} inputs, {} outputs", rows, in, out));
    const Numbers weights = Numbers::random(random_, out, in);
    const Numbers x = Numbers::random(random_, rows, in);
    expect_close(multiply(subject_, weights, x), multiply(reference_, weights, x), tolerance());
  }
}

TEST_P(LinearTest, AddsTheBias) {
  const Numbers weights = Numbers::random(random_, 37, 100);
  const Numbers x = Numbers::random(random_, 3, 100);
  const Numbers bias = Numbers::random(random_, 1, 37);
  expect_close(multiply(subject_, weights, x, bias.data),
               multiply(reference_, weights, x, bias.data), tolerance());
}

TEST_P(LinearTest, WritesInsideAWiderMatrixOnly) {
  const Numbers weights = Numbers::random(random_, 19, 40);
  const Numbers x = Numbers::random(random_, 3, 40);
  const auto packed = subject_->pack(weights.source(), format()).value();
  Numbers wide(3, 25);
  std::ranges::fill(wide.data, 7.0f);
  const Matrix<float> columns(wide.data.data() + 2, 3, 19, 25);
  subject_->linear(Encoded(*subject_, x, format()).view(), *packed, {}, columns);
  const Numbers expected = multiply(subject_, weights, x);
  for (size_t r = 0; r < 3; ++r) {
    for (size_t c = 0; c < 25; ++c) {
      const bool inside = c >= 2 && c < 21;
      EXPECT_EQ(wide.view().row(r)[c], inside ? expected.view().row(r)[c - 2] : 7.0f);
    }
  }
}

TEST_P(LinearTest, ARowGivesTheSameBitsAloneAndInAnyBatch) {
  const Numbers weights = Numbers::random(random_, 50, 200);
  const Numbers x = Numbers::random(random_, 70, 200);
  const Numbers all = multiply(subject_, weights, x);
  for (size_t r = 0; r < x.rows; ++r) {
    ASSERT_EQ(multiply(subject_, weights, x.row(r)), all.row(r)) << r;
  }
  for (size_t rows = 2; rows < 14; ++rows) {
    Numbers some(rows, 200);
    std::ranges::copy(x.view().slice_rows(3, rows).row(0).data(),
                      x.view().slice_rows(3, rows).row(0).data() + rows * 200, some.data.begin());
    const Numbers y = multiply(subject_, weights, some);
    for (size_t r = 0; r < rows; ++r) ASSERT_EQ(y.row(r), all.row(3 + r)) << r << " of " << rows;
  }
}

// Kernels for many rows take them in other pieces, and long rows go around what a kernel keeps.
TEST_P(LinearTest, ARowGivesTheSameBitsAmongMany) {
  const Numbers weights = Numbers::random(random_, 140, 900);
  const Numbers x = Numbers::random(random_, 200, 900);
  const Numbers all = multiply(subject_, weights, x);
  expect_close(all, multiply(reference_, weights, x), tolerance());
  for (const size_t rows : {1, 8, 16, 20, 33, 64, 97, 130, 192, 193}) {
    Numbers some(rows, 900);
    std::copy_n(x.data.begin(), rows * 900, some.data.begin());
    const Numbers y = multiply(subject_, weights, some);
    for (size_t r = 0; r < rows; ++r) ASSERT_EQ(y.row(r), all.row(r)) << r << " of " << rows;
  }
}

TEST_P(LinearTest, TheNumberOfThreadsChangesNothing) {
  Subject one(name(), 1), three(name(), 3);
  const Numbers weights = Numbers::random(random_, 333, 150);
  const Numbers x = Numbers::random(random_, 9, 150);
  EXPECT_EQ(multiply(one, weights, x), multiply(three, weights, x));
}

TEST_P(LinearTest, ReadsEveryCheckpointType) {
  // Numbers that bf16 and f16 hold exactly, at an address that is not aligned.
  const float values[] = {0.5f, -1.25f, 2.0f, 0.0f, -3.0f, 1.5f};
  const uint16_t bf16[] = {0x3f00, 0xbfa0, 0x4000, 0x0000, 0xc040, 0x3fc0};
  const uint16_t f16[] = {0x3800, 0xbd00, 0x4000, 0x0000, 0xc200, 0x3e00};
  const Numbers x = Numbers::random(random_, 2, 3);
  const auto multiply_source = [&](const void* from, DType dtype, BlockScales scales = {}) {
    std::vector<std::byte> shifted(1 + 6 * dtype_bytes(dtype));
    std::memcpy(shifted.data() + 1, from, 6 * dtype_bytes(dtype));
    const auto packed = subject_->pack({shifted.data() + 1, dtype, 2, 3, scales}, format()).value();
    Numbers y(2, 2);
    subject_->linear(Encoded(*subject_, x, format()).view(), *packed, {}, y.view());
    return y;
  };
  const Numbers expected = multiply_source(values, DType::kF32);
  EXPECT_EQ(multiply_source(bf16, DType::kBf16), expected);
  EXPECT_EQ(multiply_source(f16, DType::kF16), expected);

  const uint8_t f8[] = {0x30, 0xba, 0x40, 0x00, 0xc4, 0x3c};
  EXPECT_EQ(multiply_source(f8, DType::kF8), expected);
  const auto bytes_of = [](const auto& scales) {
    return reinterpret_cast<const std::byte*>(std::data(scales));
  };
  // Rows of two blocks, the second one of which is cut off.
  const uint8_t over_scales[] = {0x28, 0xb2, 0x48, 0x00, 0xc4, 0x2c};
  const uint16_t bf16_scales[] = {0x4000, 0x3f00, 0x3f80, 0x4080};
  EXPECT_EQ(multiply_source(over_scales, DType::kF8, {bytes_of(bf16_scales), DType::kBf16, 1, 2}),
            expected);
  // One block for all, as large as the matrix or larger.
  const uint8_t halves[] = {0x28, 0xb2, 0x38, 0x00, 0xbc, 0x34};
  const float f32_scales[] = {2.0f};
  EXPECT_EQ(multiply_source(halves, DType::kF8, {bytes_of(f32_scales), DType::kF32, 128, 3}),
            expected);
}

TEST_P(LinearTest, KnowsItsShape) {
  const Numbers weights = Numbers::random(random_, 37, 100);
  const auto packed = subject_->pack(weights.source(), format()).value();
  EXPECT_EQ(packed->format(), format());
  EXPECT_EQ(packed->out_features(), 37u);
  EXPECT_EQ(packed->in_features(), 100u);
  EXPECT_GE(packed->bytes(), 37 * weight_row_bytes(format(), 100));
}

TEST_P(LinearTest, NamesTheWeightThatIsNotFinite) {
  Numbers weights = Numbers::random(random_, 37, 100);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    weights.view().row(20)[99] = bad;
    const auto packed = subject_->pack(weights.source(), format());
    ASSERT_FALSE(packed);
    EXPECT_EQ(packed.error().code, ErrorCode::kDataLoss);
    EXPECT_NE(packed.error().message.find("row 20, column 99"), std::string::npos)
        << packed.error().message;
  }
}

TEST_P(LinearTest, RefusesAnEmptyMatrix) {
  const float number = 0.0f;
  const auto* data = reinterpret_cast<const std::byte*>(&number);
  const auto packed = subject_->pack({data, DType::kF32, 0, 3}, format());
  ASSERT_FALSE(packed);
  EXPECT_EQ(packed.error().code, ErrorCode::kInvalidArgument);
}

TEST_P(LinearTest, WhatIsNotFiniteInARowStaysInThatRow) {
  const Numbers weights = Numbers::random(random_, 20, 200);
  Numbers x = Numbers::random(random_, 3, 200);
  const Numbers clean = multiply(subject_, weights, x);
  x.view().row(1)[150] = std::nanf("");
  const Numbers y = multiply(subject_, weights, x);
  EXPECT_EQ(y.row(0), clean.row(0));
  EXPECT_EQ(y.row(2), clean.row(2));
  for (const float value : y.view().row(1)) EXPECT_TRUE(std::isnan(value));
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearTest, all_formats(), format_test_name);

class QuantizedTest : public BackendTest {};

TEST_P(QuantizedTest, UnusualWeightsAreRoundedAlike) {
  Numbers weights = Numbers::random(random_, 7, 300);
  const auto change = [&](size_t row, auto number) {
    for (size_t i = 0; i < weights.cols; ++i) {
      float& weight = weights.view().row(row)[i];
      weight = number(i, weight);
    }
  };
  change(0, [](size_t, float) { return 0.0f; });
  change(1, [](size_t, float w) { return w * 1e-43f; });  // subnormal, and so are scales
  change(2, [](size_t, float w) { return w * 3e37f; });
  change(3, [](size_t i, float) { return 0.125f * static_cast<float>(i % 200) - 12.0f; });  // ties
  change(4, [](size_t i, float w) { return i % 64 == 5 ? 1000 * w : w; });
  change(5, [](size_t, float) { return -0.75f; });
  const Numbers x = Numbers::random(random_, 3, 300);
  for (const WeightFormat format : {WeightFormat::kQ8, WeightFormat::kQ4}) {
    Numbers actual(3, 7), expected(3, 7);
    const auto multiply = [&](Subject& subject, Numbers& y) {
      const auto packed = subject->pack(weights.source(), format).value();
      subject->linear(Encoded(*subject, x, format).view(), *packed, {}, y.view());
    };
    multiply(subject_, actual);
    multiply(reference_, expected);
    EXPECT_EQ(actual, expected) << to_string(format);
  }
}

TEST_P(QuantizedTest, RowsOfOneFormatServeBoth) {
  const Numbers weights = Numbers::random(random_, 20, 200);
  const Numbers x = Numbers::random(random_, 3, 200);
  for (const auto& [of_rows, of_weights] : {std::pair(WeightFormat::kQ8, WeightFormat::kQ4),
                                            std::pair(WeightFormat::kQ4, WeightFormat::kQ8),
                                            std::pair(WeightFormat::kBf16, WeightFormat::kF8),
                                            std::pair(WeightFormat::kF8, WeightFormat::kBf16)}) {
    const auto packed = subject_->pack(weights.source(), of_weights).value();
    Numbers y(3, 20), expected(3, 20);
    subject_->linear(Encoded(*subject_, x, of_rows).view(), *packed, {}, y.view());
    subject_->linear(Encoded(*subject_, x, of_weights).view(), *packed, {}, expected.view());
    EXPECT_EQ(y, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, QuantizedTest, all_backends(), backend_test_name);

}  // namespace
}  // namespace pregate::compute
