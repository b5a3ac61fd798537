#include "compute/cpu/verify.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "compute/cpu/backend.h"

namespace pregate::compute::cpu {
namespace {

// Sizes that leave something over in every direction: panels, groups, row tiles, spans.
constexpr size_t kRows[] = {7, kExpandRows + 3};
constexpr size_t kInputs = 149;
constexpr size_t kOutputs = 45;
constexpr size_t kHeadDim = 20;
constexpr size_t kTokens = 70;

std::vector<float> random_numbers(Random& random, size_t count) {
  std::vector<float> numbers(count);
  std::ranges::generate(numbers, [&] { return static_cast<float>(random.next_normal()); });
  return numbers;
}

SourceMatrix source(const std::vector<float>& numbers, size_t rows, size_t cols) {
  return {reinterpret_cast<const std::byte*>(numbers.data()), DType::kF32, rows, cols};
}

std::vector<float> run_linear(CpuBackend& backend, WeightFormat format, size_t rows) {
  Random random(1);
  const auto weights = random_numbers(random, kOutputs * kInputs);
  const auto x = random_numbers(random, rows * kInputs);
  std::vector<std::byte> encoded(rows * encoded_row_bytes(format, kInputs));
  std::vector<float> y(rows * kOutputs);
  const auto packed = backend.pack(source(weights, kOutputs, kInputs), format);
  if (!packed) return {};
  backend.encode({x.data(), rows, kInputs}, format, encoded.data());
  backend.linear({format, rows, kInputs, encoded.data()}, **packed, {}, {y.data(), rows, kOutputs});
  return y;
}

std::vector<float> run_expert(CpuBackend& backend, WeightFormat format) {
  Random random(2);
  const auto gate = random_numbers(random, kOutputs * kInputs);
  const auto up = random_numbers(random, kOutputs * kInputs);
  const auto down = random_numbers(random, kInputs * kOutputs);
  const auto x = random_numbers(random, kInputs);
  const auto expert =
      backend.pack_expert({source(gate, kOutputs, kInputs), source(up, kOutputs, kInputs),
                           source(down, kInputs, kOutputs)},
                          format);
  if (!expert) return {};
  std::vector<std::byte> encoded(encoded_row_bytes(format, kInputs));
  backend.encode({x.data(), 1, kInputs}, format, encoded.data());
  const uint32_t row = 0;
  const float weight = 0.5f;
  const ExpertTask task{expert->get(), {&row, 1}, {&row, 1}, {&weight, 1}};
  std::vector<float> y(kInputs);
  backend.experts({format, 1, kInputs, encoded.data()}, {&task, 1}, {y.data(), 1, kInputs});
  return y;
}

std::vector<float> run_attention(CpuBackend& backend, DType dtype) {
  Random random(3);
  auto q = random_numbers(random, kTokens * 2 * kHeadDim);
  auto keys = random_numbers(random, kTokens * kHeadDim);
  auto values = random_numbers(random, kTokens * kHeadDim);
  const auto kv = backend.allocate_kv({1, 1, kHeadDim, dtype}, 5);
  if (!kv) return {};
  const std::array<uint32_t, 5> blocks = {3, 1, 4, 0, 2};
  const SequenceRows sequence{0, kTokens, 0, blocks};
  backend.place_heads(**kv, {}, {&sequence, 1}, {q.data(), kTokens, 2 * kHeadDim},
                      {keys.data(), kTokens, kHeadDim}, {values.data(), kTokens, kHeadDim});
  std::vector<float> out(kTokens * 2 * kHeadDim);
  backend.attention(**kv, {0, 2, 0.2f, 0}, {&sequence, 1}, {q.data(), kTokens, 2 * kHeadDim},
                    {out.data(), kTokens, 2 * kHeadDim});
  return out;
}

/// `tolerance` is relative to the largest number expected: 0 for the same bits.
bool agree(const std::vector<float>& actual, const std::vector<float>& expected, float tolerance) {
  float largest = 0.0f;
  for (const float value : expected) largest = std::max(largest, std::fabs(value));
  const auto close = [&](float a, float b) { return std::fabs(a - b) <= tolerance * largest; };
  return !expected.empty() && std::ranges::equal(actual, expected, close);
}

}  // namespace

Status verify_kernels(const KernelSet& kernels) {
  ThreadPool one_thread(1);
  CpuBackend backend(kernels, one_thread);
  CpuBackend generic(kGenericKernels, one_thread);
  struct {
    WeightFormat format;
    const char* name;
    float tolerance;  // f32 sums in another order; a bf16 activation may also round the other way
  } const formats[] = {{WeightFormat::kF32, "f32", 1e-5f},
                       {WeightFormat::kBf16, "bf16", 1e-2f},
                       {WeightFormat::kQ8, "q8", 0.0f},
                       {WeightFormat::kQ4, "q4", 0.0f},
                       {WeightFormat::kF8, "f8", 1e-2f}};
  for (const auto& [format, name, tolerance] : formats) {
    for (const size_t rows : kRows) {
      const auto expected = run_linear(generic, format, rows);
      if (agree(run_linear(backend, format, rows), expected, tolerance)) continue;
      return fail(ErrorCode::kInternal, "{}: wrong result of linear in {}", kernels.name, name);
    }
    if (!agree(run_expert(backend, format), run_expert(generic, format), tolerance)) {
      return fail(ErrorCode::kInternal, "{}: wrong result of experts in {}", kernels.name, name);
    }
  }
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    if (!agree(run_attention(backend, dtype), run_attention(generic, dtype), 1e-5f)) {
      return fail(ErrorCode::kInternal, "{}: wrong result of attention", kernels.name);
    }
  }
  return {};
}

}  // namespace pregate::compute::cpu
