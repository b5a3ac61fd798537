// The reference back end against numbers worked out by hand; the conformance suite holds every
// other back end to the reference.
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "compute/backend.h"
#include "compute/number.h"

namespace pregate::compute {
namespace {

class ReferenceTest : public ::testing::Test {
 protected:
  ThreadPool threads_{1};
  std::unique_ptr<Backend> backend_ = make_backend("reference", threads_).value();
};

template <size_t kSize>
SourceMatrix source(const std::array<float, kSize>& values, size_t rows, size_t cols) {
  return {reinterpret_cast<const std::byte*>(values.data()), DType::kF32, rows, cols};
}

TEST_F(ReferenceTest, EncodeQ8ScalesEachGroup) {
  std::vector<float> x(130, 0.0f);
  x[0] = 127.0f;
  x[1] = 2.5f;   // a tie: to even, 2
  x[2] = -3.5f;  // a tie: to even, -4
  x[129] = -254.0f;
  std::vector<std::byte> out(encoded_row_bytes(WeightFormat::kQ8, x.size()));
  ASSERT_EQ(out.size(), 2 * (4 + 128u));
  backend_->encode({x.data(), 1, x.size()}, WeightFormat::kQ8, out.data());
  std::array<float, 2> scales;
  std::memcpy(scales.data(), out.data(), sizeof(scales));
  EXPECT_EQ(scales[0], 1.0f);
  EXPECT_EQ(scales[1], 2.0f);
  const auto* values = reinterpret_cast<const int8_t*>(out.data() + 8);
  EXPECT_EQ(values[0], 127);
  EXPECT_EQ(values[1], 2);
  EXPECT_EQ(values[2], -4);
  EXPECT_EQ(values[129], -127);
  for (size_t i = 130; i < 256; ++i) EXPECT_EQ(values[i], 0);
}

TEST_F(ReferenceTest, EncodeQ8TurnsAnInfinityIntoNaNOfItsGroupOnly) {
  std::vector<float> x(256, 1.0f);
  x[200] = std::numeric_limits<float>::infinity();
  std::vector<std::byte> out(encoded_row_bytes(WeightFormat::kQ8, x.size()));
  backend_->encode({x.data(), 1, x.size()}, WeightFormat::kQ8, out.data());
  std::array<float, 2> scales;
  std::memcpy(scales.data(), out.data(), sizeof(scales));
  EXPECT_EQ(scales[0], 1.0f / 127.0f);
  EXPECT_TRUE(std::isnan(scales[1]));
}

/// The weights of one output as a back end multiplies them.
std::vector<float> kept(Backend& backend, const std::vector<float>& weights, WeightFormat format) {
  const SourceMatrix matrix{reinterpret_cast<const std::byte*>(weights.data()), DType::kF32, 1,
                            weights.size()};
  const auto packed = backend.pack(matrix, format).value();
  std::vector<float> numbers(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    std::vector<float> x(weights.size(), 0.0f);
    x[i] = 127.0f;  // which q8 and bf16 hold exactly
    std::vector<std::byte> encoded(encoded_row_bytes(format, x.size()));
    backend.encode({x.data(), 1, x.size()}, format, encoded.data());
    backend.linear({format, 1, x.size(), encoded.data()}, *packed, {}, {&numbers[i], 1, 1});
    numbers[i] /= 127.0f;
  }
  return numbers;
}

TEST_F(ReferenceTest, Q4KeepsWhatItsFactorsAndCodesHold) {
  std::vector<float> weights(300, 0.0f);
  weights[0] = 108.0f;                                          // the scale becomes 1
  for (int i = 0; i < 16; ++i) weights[16 + i] = float(i - 8);  // factor 1: every code
  for (int i = 0; i < 8; ++i) weights[32 + i] = float(-3 * i);  // factor 3
  weights[47] = 20.0f;
  weights[48] = -104.0f;                                               // factor 13, code -8
  weights[128] = std::numeric_limits<float>::denorm_min();             // the scale becomes 0
  weights[256] = 216.0f, weights[272] = -16.0f, weights[299] = 14.0f;  // the scale becomes 2
  std::vector<float> expected = weights;
  expected[0] = 105.0f;  // factor 15, code 7
  expected[47] = 21.0f;
  expected[128] = 0.0f;
  expected[256] = 210.0f;
  EXPECT_EQ(kept(*backend_, weights, WeightFormat::kQ4), expected);
}

TEST_F(ReferenceTest, F8KeepsWhatItsScaleAndCodesHold) {
  std::vector<float> weights(300, 0.0f);
  weights[0] = -448.0f;  // the scale becomes 1
  weights[1] = 13.0f, weights[2] = 27.0f, weights[3] = 29.0f;
  weights[4] = 0x1p-6f, weights[5] = 0x1.8p-7f, weights[6] = 0x1p-9f, weights[7] = 0x1p-10f;
  weights[128] = std::numeric_limits<float>::denorm_min();  // the scale becomes 0
  weights[256] = 896.0f, weights[299] = 0x1p-8f;            // the scale becomes 2
  std::vector<float> expected = weights;
  expected[2] = 28.0f;  // ties: to even
  expected[3] = 28.0f;
  expected[7] = 0.0f;
  expected[128] = 0.0f;
  EXPECT_EQ(kept(*backend_, weights, WeightFormat::kF8), expected);
}

TEST_F(ReferenceTest, LinearMultipliesAndAddsBias) {
  const auto weights = backend_->pack(source(std::array{1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f}, 2, 3),
                                      WeightFormat::kF32);
  ASSERT_TRUE(weights);
  const std::array x = {1.0f, 0.0f, -1.0f, 2.0f, 2.0f, 2.0f};
  const std::array bias = {10.0f, 20.0f};
  std::array<float, 4> y{};
  backend_->linear({WeightFormat::kF32, 2, 3, reinterpret_cast<const std::byte*>(x.data())},
                   **weights, bias, {y.data(), 2, 2});
  EXPECT_EQ(y, (std::array{8.0f, 18.0f, 22.0f, 50.0f}));
}

TEST_F(ReferenceTest, ExpertIsGatedAndWeighted) {
  const std::array gate = {1.0f}, up = {3.0f}, down = {0.5f};
  const auto expert = backend_->pack_expert(
      {source(gate, 1, 1), source(up, 1, 1), source(down, 1, 1)}, WeightFormat::kF32);
  ASSERT_TRUE(expert);
  const std::array x = {2.0f};
  const std::array<uint32_t, 1> rows = {0}, out_rows = {1};
  const std::array gates = {0.25f};
  const std::array tasks = {ExpertTask{expert->get(), rows, out_rows, gates}};
  std::array out = {9.0f, 9.0f};
  backend_->experts({WeightFormat::kF32, 1, 1, reinterpret_cast<const std::byte*>(x.data())}, tasks,
                    {out.data(), 2, 1});
  EXPECT_EQ(out[0], 0.0f);
  const float silu = 2.0f / (1.0f + std::exp(-2.0f));
  EXPECT_NEAR(out[1], 0.25f * 0.5f * silu * 6.0f, 1e-6f);
}

TEST_F(ReferenceTest, AttentionSeesTheWindowUpToItself) {
  const KvShape shape{1, 1, 1, DType::kF32};
  auto kv = backend_->allocate_kv(shape, 2);
  ASSERT_TRUE(kv);
  const std::array<uint32_t, 1> blocks = {1};
  const std::array sequences = {SequenceRows{0, 3, 0, blocks}};
  std::array keys = {0.0f, 0.0f, 0.0f};  // equal scores: the mean of the values
  std::array values = {3.0f, 6.0f, 12.0f};
  const Matrix<float> rows(keys.data(), 3, 1);
  backend_->place_heads(**kv, {}, sequences, rows, rows, {values.data(), 3, 1});
  std::array<float, 3> out{};
  const AttentionOptions all{0, 1, 1.0f, 0};
  backend_->attention(**kv, all, sequences, {keys.data(), 3, 1}, {out.data(), 3, 1});
  EXPECT_NEAR(out[0], 3.0f, 1e-6f);
  EXPECT_NEAR(out[1], 4.5f, 1e-6f);
  EXPECT_NEAR(out[2], 7.0f, 1e-6f);
  const AttentionOptions window_of_two{0, 1, 1.0f, 2};
  backend_->attention(**kv, window_of_two, sequences, {keys.data(), 3, 1}, {out.data(), 3, 1});
  EXPECT_NEAR(out[2], 9.0f, 1e-6f);
}

TEST_F(ReferenceTest, RmsNormPerGroup) {
  std::array x = {3.0f, 4.0f, 6.0f, 8.0f};
  const std::array weight = {1.0f, 2.0f};
  backend_->rms_norm({x.data(), 1, 4}, weight, 0.0f, {x.data(), 1, 4});
  const float rms = std::sqrt(12.5f);
  EXPECT_NEAR(x[0], 3.0f / rms, 1e-6f);
  EXPECT_NEAR(x[1], 8.0f / rms, 1e-6f);
  EXPECT_NEAR(x[2], 3.0f / rms, 1e-6f);
  EXPECT_NEAR(x[3], 8.0f / rms, 1e-6f);
}

TEST_F(ReferenceTest, RotatePairsHalvesAndLeavesTheRest) {
  std::array q = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f};  // one head of 5, of which 4 turn
  std::array k = q, v = q;
  const std::array cos = {0.0f, 1.0f}, sin = {1.0f, 0.0f};
  const auto kv = backend_->allocate_kv({1, 1, 5, DType::kF32}, 1).value();
  const std::array<uint32_t, 1> blocks = {0};
  const SequenceRows sequence{0, 1, 0, blocks};
  backend_->place_heads(*kv, {.cos = {cos.data(), 1, 2}, .sin = {sin.data(), 1, 2}}, {&sequence, 1},
                        {q.data(), 1, 5}, {k.data(), 1, 5}, {v.data(), 1, 5});
  EXPECT_EQ(q, (std::array{-3.0f, 2.0f, 1.0f, 4.0f, 5.0f}));
}

}  // namespace
}  // namespace pregate::compute
