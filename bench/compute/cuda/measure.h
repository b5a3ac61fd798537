// What the benchmarks of a CUDA device share: the device, what it can do at best, and how long work
// takes that is replayed from a recording, so that launching costs nothing.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/thread_pool.h"
#include "compute/cpu/select.h"
#include "compute/cuda/device.h"
#include "compute/cuda/loader.h"

namespace pregate::compute::cuda {

inline constexpr std::array<std::pair<std::string_view, WeightFormat>, 4> kFormats = {
    {{"bf16", WeightFormat::kBf16},
     {"f8", WeightFormat::kF8},
     {"q8", WeightFormat::kQ8},
     {"q4", WeightFormat::kQ4}}};

inline std::string_view name_of(WeightFormat format) {
  return std::ranges::find(kFormats, format, &std::pair<std::string_view, WeightFormat>::second)
      ->first;
}

/// How long something is measured. Parts tell where time goes and need be less exact.
struct Effort {
  int num_runs;
  double seconds_of_a_run;
};
inline constexpr Effort kForAll{7, 0.05}, kForParts{3, 0.02};

[[noreturn]] inline void end_with(const Error& error) {
  fmt::print(stderr, "{}\n", error.message);
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) end_with(result.error());
  return std::move(*result);
}

inline void must(const Status& status) {
  if (!status) end_with(status.error());
}

/// What computes, and what prepares for it.
struct Machine {
  std::shared_ptr<Device> device;
  DeviceLimits limits;
  const cpu::KernelSet& kernels;
  ThreadPool& threads;
};

inline Machine open_machine(ThreadPool& threads) {
  auto device = must(devices().open(0));
  const DeviceLimits limits = must(device->measure_limits());
  return {std::move(device), limits, *must(cpu::select_kernels("cpu")), threads};
}

inline double seconds_of(Stream& stream, const Recording& recording, size_t count) {
  const auto begin = std::chrono::steady_clock::now();
  for (size_t i = 0; i < count; ++i) stream.replay(recording);
  must(stream.synchronize());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  return elapsed.count() / static_cast<double>(count);
}

/// Seconds that `work` takes once recorded: the median of several runs.
inline double measure(Stream& stream, const std::function<void()>& work, const Effort& effort) {
  const auto recording = must(stream.record(work));
  seconds_of(stream, *recording, 1);
  const double about = seconds_of(stream, *recording, 3);
  const auto count = std::max<size_t>(1, static_cast<size_t>(effort.seconds_of_a_run / about));
  std::vector<double> runs(effort.num_runs);
  for (double& run : runs) run = seconds_of(stream, *recording, count);
  std::ranges::sort(runs);
  return runs[runs.size() / 2];
}

}  // namespace pregate::compute::cuda
