// What WeightFormat::kF8 keeps; f8.h. Products of other weights are in linear_test.cc.
#include "compute/f8.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compute/source.h"
#include "tests/conformance/compute/fixture.h"

namespace pregate::compute {
namespace {

/// Weights as they are published in 8 bits: every code, zeros of both signs and subnormal ones too.
class F8Test : public BackendTest {
 protected:
  static constexpr size_t kRows = 140, kCols = 300, kBlock = 128;
  static constexpr size_t kBlockRows = 2, kBlockCols = 3;

  F8Test() {
    for (uint8_t& code : codes_) {
      do code = static_cast<uint8_t>(random_.next_u64() >> 32);
      while ((code & 0x7f) == 0x7f);
    }
    for (float& scale : scales_) scale = static_cast<float>(random_.next_normal()) * 0.01f;
  }

  SourceMatrix published() const {
    return {reinterpret_cast<const std::byte*>(codes_.data()), DType::kF8, kRows, kCols,
            BlockScales{reinterpret_cast<const std::byte*>(scales_.data()), DType::kF32, kBlock,
                        kBlock}};
  }
  float& scale_of(size_t row, size_t col) {
    return scales_[row / kBlock * kBlockCols + col / kBlock];
  }
  float code_of(size_t row, size_t col) const { return f8_to_f32(codes_[row * kCols + col]); }

  Numbers multiply(Subject& subject, const SourceMatrix& weights, const Numbers& x) const {
    const auto packed = subject->pack(weights, WeightFormat::kF8).value();
    Numbers y(x.rows, weights.rows);
    subject->linear(Encoded(*subject, x, WeightFormat::kF8).view(), *packed, {}, y.view());
    return y;
  }
  /// What each weight is multiplied as: [cols, rows].
  Numbers kept(Subject& subject, const SourceMatrix& weights) const {
    Numbers ones(weights.cols, weights.cols);
    for (size_t i = 0; i < ones.rows; ++i) ones.view().row(i)[i] = 1.0f;
    return multiply(subject, weights, ones);
  }
  std::string error_of(const SourceMatrix& weights) {
    const auto packed = subject_->pack(weights, WeightFormat::kF8);
    if (packed) return "none";
    EXPECT_EQ(packed.error().code, ErrorCode::kDataLoss);
    return packed.error().message;
  }

  std::vector<uint8_t> codes_ = std::vector<uint8_t>(kRows * kCols);
  std::vector<float> scales_ = std::vector<float>(kBlockRows * kBlockCols);
};

TEST_P(F8Test, PublishedWeightsAreKeptToTheBit) {
  const Numbers weights = kept(subject_, published());
  for (size_t row = 0; row < kRows; ++row) {
    for (size_t col = 0; col < kCols; ++col) {
      ASSERT_EQ(weights.view().row(col)[row], code_of(row, col) * scale_of(row, col))
          << row << ", " << col;
    }
  }
}

TEST_P(F8Test, ScalesMayBeOfSmallerTypesAndOfLargerBlocks) {
  const std::vector<uint16_t> scales = {0x3f81, 0xbe20, 0x3c99, 0x4001, 0x0000, 0x3d43};
  SourceMatrix small = published();
  small.scales.data = reinterpret_cast<const std::byte*>(scales.data());
  small.scales.dtype = DType::kBf16;
  std::ranges::transform(scales, scales_.begin(), bf16_to_f32);
  EXPECT_EQ(kept(subject_, small), kept(subject_, published()));

  SourceMatrix large = published();
  large.scales.block_rows = kRows;
  large.scales.block_cols = 2 * kBlock;
  const Numbers weights = kept(subject_, large);
  EXPECT_EQ(weights.view().row(255)[139], code_of(139, 255) * scales_[0]);
  EXPECT_EQ(weights.view().row(256)[139], code_of(139, 256) * scales_[1]);
}

TEST_P(F8Test, ProductsAreThoseOfPublishedWeights) {
  Numbers x = Numbers::random(random_, 9, kCols);
  for (float& value : x.data) value = bf16_to_f32(f32_to_bf16(value));
  Numbers exact(x.rows, kRows);
  for (size_t r = 0; r < x.rows; ++r) {
    for (size_t row = 0; row < kRows; ++row) {
      double sum = 0.0;
      for (size_t col = 0; col < kCols; ++col) {
        sum += double(x.view().row(r)[col]) * code_of(row, col) * double(scale_of(row, col));
      }
      exact.view().row(r)[row] = static_cast<float>(sum);
    }
  }
  expect_close(multiply(subject_, published(), x), exact, 1e-6f);
}

TEST_P(F8Test, TakesEightAndAQuarterBits) {
  const Numbers weights = Numbers::random(random_, 256, 1024);
  const auto packed = subject_->pack(weights.source(), WeightFormat::kF8).value();
  EXPECT_NEAR(double(packed->bytes()), 256 * 1024 * 8.25 / 8, 4096);
}

TEST_P(F8Test, OtherWeightsAreRounded) {
  SourceMatrix small_blocks = published();
  small_blocks.scales.block_cols = 100;
  SourceMatrix unscaled = published();
  unscaled.scales = {};
  Numbers wide = Numbers::random(random_, kRows, kCols);
  for (size_t i = 0; i < kCols; ++i) {
    wide.view().row(0)[i] = 0.0f;
    wide.view().row(1)[i] *= 1e-43f;  // subnormal, and so are scales
    wide.view().row(2)[i] *= 3e37f;
    if (i % 64 == 5) wide.view().row(3)[i] *= 1e6f;
  }
  for (const SourceMatrix& source : {small_blocks, unscaled, wide.source()}) {
    EXPECT_EQ(kept(subject_, source), kept(reference_, source));
    Numbers row(1, kCols);
    ASSERT_TRUE(read_row(source, 17, row.data));
    const Numbers weights = kept(subject_, source);
    float largest = 0.0f;
    for (size_t i = 0; i < kQ8Group; ++i) largest = std::max(largest, std::fabs(row.data[i]));
    const float scale = largest / kLargestF8;
    for (size_t i = 0; i < kQ8Group; ++i) {
      EXPECT_EQ(weights.view().row(i)[17], f8_to_f32(f32_to_f8(row.data[i] / scale)) * scale);
    }
  }
}

TEST_P(F8Test, PublishedNumbersThatAreNoneAreNamed) {
  codes_[130 * kCols + 290] = 0xff;
  EXPECT_NE(error_of(published()).find("row 130, column 290"), std::string::npos);
  codes_[130 * kCols + 290] = 0x01;
  scale_of(128, 256) = std::numeric_limits<float>::infinity();
  EXPECT_NE(error_of(published()).find("row 128, column 256"), std::string::npos);
  scale_of(128, 256) = 1.0f;
  EXPECT_EQ(error_of(published()), "none");
}

INSTANTIATE_TEST_SUITE_P(Backends, F8Test, all_backends(), backend_test_name);

}  // namespace
}  // namespace pregate::compute
