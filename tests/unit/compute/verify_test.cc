#include "compute/cpu/verify.h"

#include <cstring>

#include <gtest/gtest.h>

#include "compute/backend.h"
#include "compute/cpu/weights.h"
#include "compute/limits.h"

namespace pregate::compute::cpu {
namespace {

TEST(VerifyKernels, AcceptsWhatThisProcessorRuns) {
  for (const KernelSet* kernels : supported_kernels()) {
    const Status verified = verify_kernels(*kernels);
    EXPECT_TRUE(verified) << verified.error().message;
  }
}

void half_of_silu_multiply(const float* gate, const float* up, size_t count, float* out) {
  kGenericKernels.silu_multiply(gate, up, count, out);
  for (size_t i = 0; i < count; ++i) out[i] *= 0.5f;
}

template <WeightFormat kFormat>
void multiply_with_one_wrong_bit(const Tile& tile) {
  kGenericKernels.multiply_of(kFormat).multiply(tile);
  tile.out[0] *= 1.0f + 0x1p-23f;
}

void multiply_f8_wrongly(const Tile& tile) {
  kGenericKernels.multiply_of(WeightFormat::kF8).multiply(tile);
  tile.out[0] += 100.0f;
}

void expand_to_nothing(const std::byte*, size_t cols, std::byte* q8_panel) {
  std::memset(q8_panel, 0, panel_bytes(kGenericKernels, WeightFormat::kQ8, cols));
}

void attend_to_nothing(const AttentionSpan& span) {
  for (size_t i = 0; i < span.num_queries; ++i) span.queries[i].total = 1.0f;
}

TEST(VerifyKernels, NamesTheOperationThatIsWrong) {
  KernelSet wrong = kGenericKernels;
  wrong.name = "cpu/wrong";
  wrong.silu_multiply = half_of_silu_multiply;
  EXPECT_EQ(verify_kernels(wrong).error().message, "cpu/wrong: wrong result of experts in f32");

  wrong = kGenericKernels;
  MultiplyKernel& q8 = wrong.multiply[static_cast<size_t>(WeightFormat::kQ8)];
  q8.multiply = multiply_with_one_wrong_bit<WeightFormat::kQ8>;
  EXPECT_EQ(verify_kernels(wrong).error().message, "cpu/generic: wrong result of linear in q8");

  wrong = kGenericKernels;
  MultiplyKernel& q4 = wrong.multiply[static_cast<size_t>(WeightFormat::kQ4)];
  q4.multiply = multiply_with_one_wrong_bit<WeightFormat::kQ4>;
  EXPECT_EQ(verify_kernels(wrong).error().message, "cpu/generic: wrong result of linear in q4");

  wrong = kGenericKernels;
  q4.expand = expand_to_nothing;
  EXPECT_EQ(verify_kernels(wrong).error().message, "cpu/generic: wrong result of linear in q4");

  wrong = kGenericKernels;
  MultiplyKernel& f8 = wrong.multiply[static_cast<size_t>(WeightFormat::kF8)];
  f8.multiply = multiply_f8_wrongly;
  EXPECT_EQ(verify_kernels(wrong).error().message, "cpu/generic: wrong result of linear in f8");

  wrong = kGenericKernels;
  wrong.attend.back() = attend_to_nothing;
  EXPECT_EQ(verify_kernels(wrong).error().message, "cpu/generic: wrong result of attention");
}

TEST(MachineLimits, AreMeasuredForEveryBackEnd) {
  ThreadPool threads(1);
  for (const std::string& name : available_backends()) {
    const auto limits = measure_limits(name, threads);
    ASSERT_TRUE(limits) << limits.error().message;
    EXPECT_GT(limits->read_bytes_per_s, 0.0);
    EXPECT_GT(limits->bf16_flops, 0.0);
    if (name.starts_with("cuda:")) continue;
    EXPECT_GT(limits->int8_ops_per_s, 0.0);
    EXPECT_GT(limits->f32_flops, 0.0);
  }
  EXPECT_EQ(measure_limits("gpu", threads).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(measure_limits("cuda:x", threads).error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(measure_limits("cuda:99", threads));
}

}  // namespace
}  // namespace pregate::compute::cpu
