#include "compute/limits.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <new>

#include "base/clock.h"
#include "compute/cpu/buffer.h"
#include "compute/cpu/select.h"

namespace pregate::compute {
namespace {

/// The best of a few: neighbours on the machine only ever make a pass slower.
constexpr int kPasses = 7;
/// Several times what any cache of this class of machine holds.
constexpr size_t kReadBytes = size_t{256} << 20;

double best_seconds(ThreadPool& threads, const std::function<void(size_t)>& body) {
  double best = 1e30;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    threads.run(body);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return best;
}

double measure_peak(ThreadPool& threads, const cpu::PeakLoop& loop) {
  constexpr size_t kIterations = 1'000'000;  // some 2 ms
  const double seconds = best_seconds(threads, [&](size_t) { loop.run(kIterations); });
  return static_cast<double>(loop.ops_per_iteration * kIterations * threads.num_threads()) /
         seconds;
}

double measure_reading(ThreadPool& threads) {
  cpu::Buffer buffer(kReadBytes);
  const size_t slice_bytes = kReadBytes / threads.num_threads() / 64 * 64;
  threads.run([&](size_t thread) {  // each thread touches first what it will read
    std::memset(buffer.data() + thread * slice_bytes, 1, slice_bytes);
  });
  const double seconds = best_seconds(threads, [&](size_t thread) {
    const auto* numbers = reinterpret_cast<const uint64_t*>(buffer.data() + thread * slice_bytes);
    uint64_t sums[8] = {};
    for (size_t i = 0; i < slice_bytes / 8; i += 8) {
      for (size_t s = 0; s < 8; ++s) sums[s] ^= numbers[i + s];
    }
    [[maybe_unused]] const volatile uint64_t used =
        sums[0] ^ sums[1] ^ sums[2] ^ sums[3] ^ sums[4] ^ sums[5] ^ sums[6] ^ sums[7];
  });
  return static_cast<double>(slice_bytes * threads.num_threads()) / seconds;
}

}  // namespace

Result<MachineLimits> measure_limits(const std::string& backend, ThreadPool& threads) {
  PREGATE_ASSIGN(const cpu::KernelSet* kernels,
                 cpu::select_kernels(backend == "reference" ? "cpu/generic" : backend));
  try {
    return MachineLimits{.read_bytes_per_s = measure_reading(threads),
                         .int8_ops_per_s = measure_peak(threads, kernels->int8_peak),
                         .bf16_flops = measure_peak(threads, kernels->bf16_peak),
                         .f32_flops = measure_peak(threads, kernels->f32_peak)};
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kResourceExhausted, "no memory for {} bytes to measure reading with",
                kReadBytes);
  }
}

}  // namespace pregate::compute
