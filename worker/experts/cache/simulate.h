// How often a cache would have had what was needed: no weights, no threads.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "worker/experts/cache/eviction.h"

namespace pregate::worker {

/// The experts that are needed at one time, each once.
using ExpertSet = std::vector<ExpertKey>;

struct SimulationOptions {
  size_t capacity = 0;  ///< Experts of equal size; at least 1.
  /// At each time so many times after it are known, as certain.
  size_t horizon = std::numeric_limits<size_t>::max();
  /// But none after the end of the step under way, which has so many times; 0: there are no steps.
  size_t step_times = 0;
};

struct SimulationResult {
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t evictions = 0;

  double hit_ratio() const {
    return hits + misses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(hits + misses);
  }
};

/// Experts are loaded on demand only, in the order given. As in ExpertCache, those that are there
/// are computed first, and what was computed may leave for what comes after it at the same time.
/// With the whole future known, "belady" hits as often as anything can, but for the order in which
/// experts of one time are loaded.
SimulationResult simulate(std::span<const ExpertSet> trace, const SimulationOptions& options,
                          EvictionPolicy& policy);

}  // namespace pregate::worker
