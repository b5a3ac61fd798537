#include "worker/experts/capacity.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "transport/payload.h"

namespace pregate::worker {
namespace {

/// A device takes hundreds of rows until it is the rows that take the time.
constexpr size_t kFewestRows = 16, kMostRows = 1024;
/// More rows that are not faster by so much are not worth the time to try still more.
constexpr double kWorthwhile = 1.25;
constexpr Duration kEnough = std::chrono::milliseconds(20);
constexpr size_t kMinCalls = 5, kMaxCalls = 1000;

/// Of the fastest call: others on this machine slow some down, and workers alike should get alike.
Duration fastest_call(const compute::PackedExpert& expert, size_t num_rows,
                      compute::Backend& backend, const Clock& clock) {
  const size_t cols = expert.hidden_size();
  const std::vector<float> rows(num_rows * cols, 1.0f);
  std::vector<float> out(rows.size());
  const auto encoded =
      transport::allocate_payload(num_rows * compute::encoded_row_bytes(expert.format(), cols));
  backend.encode({rows.data(), num_rows, cols}, expert.format(), encoded.get());
  std::vector<uint32_t> indices(num_rows);
  std::iota(indices.begin(), indices.end(), 0);
  const std::vector<float> gates(num_rows, 1.0f);
  const compute::ExpertTask task{&expert, indices, indices, gates};
  Duration fastest = Duration::max();
  const TimePoint end = clock.now() + kEnough;
  for (size_t num_calls = 0; num_calls < kMaxCalls; ++num_calls) {
    const TimePoint begin = clock.now();
    backend.experts({expert.format(), num_rows, cols, encoded.get()}, {&task, 1},
                    {out.data(), num_rows, cols});
    const TimePoint now = clock.now();
    fastest = std::min(fastest, now - begin);
    if (now >= end && num_calls >= kMinCalls) break;
  }
  return std::max(fastest, Duration(1));
}

double measure_rows_per_second(const compute::PackedExpert& expert, compute::Backend& backend,
                               const Clock& clock) {
  double best = 0;
  for (size_t rows = kFewestRows; rows <= kMostRows; rows *= 2) {
    const Duration call = fastest_call(expert, rows, backend, clock);
    const double speed = static_cast<double>(rows) / to_seconds(call);
    const bool worthwhile = speed > kWorthwhile * best;
    best = std::max(best, speed);
    if (!worthwhile) break;
  }
  return best;
}

}  // namespace

Result<protocol::Capacity> measure_capacity(const ReadExpert& read, compute::Backend& backend,
                                            const CapacityOptions& options, const Clock& clock) {
  PREGATE_ASSIGN(const auto expert, read(options.sample.first, options.sample.second));
  protocol::Capacity capacity;
  capacity.rows_per_second = measure_rows_per_second(*expert, backend, clock);
  capacity.memory_bytes = options.memory_bytes;
  capacity.expert_bytes = expert->bytes();
  capacity.threads = static_cast<uint32_t>(options.num_threads);
  capacity.backend = backend.name();
  return capacity;
}

}  // namespace pregate::worker
