#include "compute/limits.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <new>

#include "base/clock.h"
#include "base/cuda_name.h"
#include "compute/cpu/buffer.h"
#include "compute/cpu/select.h"
#include "compute/cuda/select.h"

namespace pregate::compute {
namespace {

/// The best of many short passes: neighbours on the machine only ever make a pass slower, and a
/// pass of a millisecond or two has a chance to find them idle.
constexpr size_t kPasses = 32;
/// Read window by window; when a window's turn comes again, no cache of this class of machine holds
/// it any more.
constexpr size_t kReadBytes = size_t{256} << 20;
constexpr size_t kNumWindows = 8;

double best_seconds(ThreadPool& threads,
                    const std::function<void(size_t pass, size_t thread)>& body) {
  double best = 1e30;
  for (size_t pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    threads.run([&](size_t thread) { body(pass, thread); });
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return best;
}

double measure_peak(ThreadPool& threads, const cpu::PeakLoop& loop) {
  constexpr size_t kIterations = 200'000;  // less than a millisecond
  const double seconds = best_seconds(threads, [&](size_t, size_t) { loop.run(kIterations); });
  return static_cast<double>(loop.ops_per_iteration * kIterations * threads.num_threads()) /
         seconds;
}

double measure_reading(ThreadPool& threads) {
  cpu::Buffer buffer(kReadBytes);
  std::memset(buffer.data(), 1, kReadBytes);
  constexpr size_t kWindowBytes = kReadBytes / kNumWindows;
  const size_t slice_bytes = kWindowBytes / threads.num_threads() / 64 * 64;
  const double seconds = best_seconds(threads, [&](size_t pass, size_t thread) {
    const std::byte* window = buffer.data() + pass % kNumWindows * kWindowBytes;
    const auto* numbers = reinterpret_cast<const uint64_t*>(window + thread * slice_bytes);
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
  if (is_cuda_name(backend)) return cuda::measure_device(backend);
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
