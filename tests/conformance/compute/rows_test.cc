#include <cmath>
#include <cstring>
#include <limits>

#include "tests/conformance/compute/fixture.h"

namespace pregate::compute {
namespace {

class EncodeTest : public FormatTest {
 protected:
  void expect_same_bits(const Numbers& x) {
    const Encoded actual(*subject_, x, format());
    const Encoded expected(*reference_, x, format());
    EXPECT_EQ(actual.bytes, expected.bytes);
  }
};

TEST_P(EncodeTest, SameBitsAsTheReference) {
  for (const size_t cols : {1, 7, 64, 127, 128, 129, 300, 2048}) {
    SCOPED_TRACE(cols);
    expect_same_bits(Numbers::random(random_, 70, cols));
  }
}

TEST_P(EncodeTest, SameBitsForUnusualNumbers) {
  Numbers x = Numbers::random(random_, 6, 256);
  std::ranges::fill(x.view().row(0), 0.0f);
  for (float& value : x.view().row(1)) value *= 1e-43f;  // subnormal, and so is the scale
  for (float& value : x.view().row(2)) value *= 1e38f;
  x.view().row(3)[5] = std::numeric_limits<float>::infinity();
  x.view().row(3)[200] = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < 256; ++i) {
    x.view().row(4)[i] = 0.5f * static_cast<float>(i) - 63.5f;  // ties
    x.view().row(5)[i] = i % 2 == 0 ? 0.0f : -0.0f;
  }
  expect_same_bits(x);
}

TEST_P(EncodeTest, ReadsRowsWithAStride) {
  const Numbers wide = Numbers::random(random_, 3, 50);
  Numbers narrow(3, 20);
  for (size_t r = 0; r < 3; ++r) {
    std::copy_n(wide.view().row(r).data() + 4, 20, narrow.view().row(r).data());
  }
  std::vector<std::byte> bytes(3 * encoded_row_bytes(format(), 20));
  subject_->encode({wide.data.data() + 4, 3, 20, 50}, format(), bytes.data());
  EXPECT_EQ(bytes, Encoded(*subject_, narrow, format()).bytes);
}

INSTANTIATE_TEST_SUITE_P(Backends, EncodeTest, all_formats(), format_test_name);

class RowsTest : public BackendTest {};

TEST_P(RowsTest, RmsNormAgreesWithTheReference) {
  for (const size_t width : {1, 7, 16, 100, 400}) {
    const Numbers x = Numbers::random(random_, 70, 400);
    const Numbers weight = Numbers::random(random_, 1, width);
    if (400 % width != 0) continue;
    Numbers actual(70, 400), expected(70, 400);
    subject_->rms_norm(x.view(), weight.data, 1e-5f, actual.view());
    reference_->rms_norm(x.view(), weight.data, 1e-5f, expected.view());
    expect_close(actual, expected, 1e-6f);
    Numbers in_place = x;
    subject_->rms_norm(in_place.view(), weight.data, 1e-5f, in_place.view());
    EXPECT_EQ(in_place, actual);
    Numbers alone = x.row(13);
    subject_->rms_norm(alone.view(), weight.data, 1e-5f, alone.view());
    EXPECT_EQ(alone, actual.row(13));
  }
}

TEST_P(RowsTest, NoRowsAreNoWork) {
  const Numbers weight = Numbers::random(random_, 1, 8);
  Numbers none(0, 8);
  subject_->rms_norm(none.view(), weight.data, 1e-5f, none.view());
  const auto packed = subject_->pack(weight.source(), WeightFormat::kQ8).value();
  Numbers y(0, 1);
  subject_->linear({WeightFormat::kQ8, 0, 8, nullptr}, *packed, {}, y.view());
}

INSTANTIATE_TEST_SUITE_P(Backends, RowsTest, all_backends(), backend_test_name);

}  // namespace
}  // namespace pregate::compute
