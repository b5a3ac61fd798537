// The CUDA back end where its device fails it. What it computes is in tests/conformance/compute.
#include "compute/cuda/backend.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "tests/support/fake_device.h"

namespace pregate::compute::cuda {
namespace {

constexpr size_t kSize = 64;

class CudaBackendTest : public ::testing::Test {
 protected:
  std::unique_ptr<CudaBackend> backend(const std::shared_ptr<FakeDevice>& device) {
    return CudaBackend::create(device, "cuda:7", threads_).value();
  }

  ExpertSource expert() const {
    const SourceMatrix matrix{reinterpret_cast<const std::byte*>(numbers_.data()), DType::kF32,
                              kSize, kSize};
    return {matrix, matrix, matrix};
  }

  /// The expert of one row.
  std::vector<float> run(CudaBackend& cuda, const PackedExpert& packed) const {
    const std::vector<uint32_t> rows = {0};
    const std::vector<float> gates = {1.0f};
    const ExpertTask task{&packed, rows, rows, gates};
    const EncodedRows x{packed.format(), 1, kSize,
                        reinterpret_cast<const std::byte*>(numbers_.data())};
    std::vector<float> out(kSize);
    cuda.experts(x, {&task, 1}, {out.data(), 1, kSize});
    return out;
  }

  ThreadPool threads_{1};
  std::vector<float> numbers_ = std::vector<float>(kSize * kSize, 0.5f);
};

TEST_F(CudaBackendTest, RefusesWhatDoesNotFitAndStaysAlive) {
  // A gibibyte of what is free is kept for rows.
  const auto device = std::make_shared<FakeDevice>((size_t{1} << 30) + 4096);
  const auto cuda = backend(device);
  const auto refused = cuda->pack_expert(expert(), WeightFormat::kF32);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(refused.error().message.find("cuda:7"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("4.0 KiB"), std::string::npos) << refused.error().message;

  std::vector<float> y(kSize);
  const Matrix<float> x(numbers_.data(), 1, kSize);
  cuda->rms_norm(x, {numbers_.data(), kSize}, 0.0f, {y.data(), 1, kSize});
  EXPECT_EQ(y[0], 0.5f);
}

TEST_F(CudaBackendTest, SmallMatricesInF32ServeRowsOfTheHostWithoutTheDevice) {
  const auto device = std::make_shared<FakeDevice>();
  auto one = backend(device);
  const auto other = backend(device);
  const auto gate = one->pack(expert().gate, WeightFormat::kF32).value();
  one.reset();
  device->lose();
  std::vector<float> y(kSize);
  const EncodedRows x{WeightFormat::kF32, 1, kSize,
                      reinterpret_cast<const std::byte*>(numbers_.data())};
  other->linear(x, *gate, {}, {y.data(), 1, kSize});
  EXPECT_EQ(y, std::vector<float>(kSize, 0.25f * kSize));
}

TEST_F(CudaBackendTest, BackEndsOfADeviceShareItsMemory) {
  const auto device = std::make_shared<FakeDevice>();
  auto one = backend(device);
  const auto other = backend(device);
  const size_t before = other->free_bytes().value();
  const auto packed = one->pack_expert(expert(), WeightFormat::kF32).value();
  EXPECT_EQ(other->free_bytes().value(), before - packed->bytes());
  const auto expected = run(*one, *packed);
  EXPECT_GT(expected.front(), 0.0f);
  one.reset();
  EXPECT_EQ(run(*other, *packed), expected);
}

TEST_F(CudaBackendTest, TheKvCacheLiesBesideTheWeights) {
  // 64 KiB for both.
  const auto device = std::make_shared<FakeDevice>((size_t{1} << 30) + (size_t{64} << 10));
  const auto cuda = backend(device);
  const KvShape shape{.num_layers = 2, .num_kv_heads = 2, .head_dim = 30, .dtype = DType::kBf16};
  EXPECT_EQ(cuda->kv_block_bytes(shape), 2u * 2 * 2 * kKvBlockTokens * 32 * 2);
  auto kv = cuda->allocate_kv(shape, 6).value();
  EXPECT_EQ(cuda->free_bytes().value(), size_t{16} << 10);

  const auto refused = cuda->allocate_kv(shape, 3);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error().message,
            "cuda:7: 24.0 KiB for the KV cache: 16.0 KiB of the budget of 64.0 KiB is free");
  EXPECT_FALSE(cuda->pack_expert(expert(), WeightFormat::kF32));
  kv.reset();
  EXPECT_EQ(cuda->free_bytes().value(), size_t{64} << 10);
}

TEST_F(CudaBackendTest, WeightsInFewBitsTakeLittleMore) {
  const auto cuda = backend(std::make_shared<FakeDevice>());
  constexpr size_t kWide = 512;
  const std::vector<float> numbers(kWide * kWide, 0.5f);
  const SourceMatrix matrix{reinterpret_cast<const std::byte*>(numbers.data()), DType::kF32, kWide,
                            kWide};
  for (const auto& [format, bits] :
       {std::pair(WeightFormat::kQ4, 4.375), std::pair(WeightFormat::kF8, 8.25)}) {
    const auto packed = cuda->pack_expert({matrix, matrix, matrix}, format).value();
    const size_t needed = 3 * kWide * weight_row_bytes(format, kWide);
    EXPECT_EQ(double(needed), 3 * kWide * kWide * bits / 8);
    EXPECT_EQ(packed->bytes(), round_up(needed, Arena::kAlignment));
  }
}

TEST_F(CudaBackendTest, ALostDeviceIsAnErrorWhileLoading) {
  const auto device = std::make_shared<FakeDevice>();
  const auto cuda = backend(device);
  device->lose();
  const auto packed = cuda->pack_expert(expert(), WeightFormat::kBf16);
  ASSERT_FALSE(packed);
  EXPECT_EQ(packed.error().code, ErrorCode::kUnavailable);
}

TEST_F(CudaBackendTest, ALostDeviceEndsTheProcessDuringAStep) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  ASSERT_TRUE(init_log("error", "test"));
  const auto device = std::make_shared<FakeDevice>();
  const auto cuda = backend(device);
  const auto packed = cuda->pack_expert(expert(), WeightFormat::kF32).value();
  device->lose();
  EXPECT_EXIT(run(*cuda, *packed), testing::ExitedWithCode(1),
              "\\[test\\] fake: device lost: it was told to fail; this process ends");
}

}  // namespace
}  // namespace pregate::compute::cuda
