// How many rows each expert gets, of late.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "base/clock.h"
#include "coordinator/placement/plan.h"

namespace pregate::coordinator {

/// Counts that halve with time. Thread-safe; add() takes no lock.
class LoadMeter {
 public:
  /// Rows of a half-life ago count half.
  LoadMeter(const PlacementShape& shape, Duration half_life);

  /// An expert outside of the shape is not counted.
  void add(LayerIdx layer, ExpertId expert, uint64_t rows);
  /// Rows added since the last call count in full.
  ExpertLoads read(TimePoint now);

 private:
  const size_t num_experts_;
  const double half_life_seconds_;
  std::vector<std::optional<size_t>> positions_;    // [layer] in PlacementShape::layers
  std::unique_ptr<std::atomic<uint64_t>[]> added_;  // [position * num_experts + expert]

  std::mutex mutex_;
  ExpertLoads loads_;                 // guarded by mutex_
  std::optional<TimePoint> read_at_;  // guarded by mutex_
};

}  // namespace pregate::coordinator
