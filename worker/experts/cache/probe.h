// What a cache of experts tells about itself. Metrics are bound to it where the process is put
// together.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace pregate::worker {

/// Why an expert was loaded.
enum class LoadCause { kDemand, kPrefetch };

/// All since the start, but for the last four.
struct CacheCounters {
  uint64_t hits = 0;    ///< Experts that a batch needed and that were there; once per batch.
  uint64_t misses = 0;  ///< And that were not, or still on their way.
  uint64_t demand_loads = 0;
  uint64_t prefetch_loads = 0;
  uint64_t load_errors = 0;  ///< Attempts.
  uint64_t evictions = 0;
  uint64_t unused_prefetches = 0;  ///< Prefetched and evicted before anybody needed them.
  uint64_t waits = 0;              ///< Batches that stood still until an expert arrived.
  Duration wait{};                 ///< Of all of them.
  size_t num_experts = 0;          ///< Held now.
  size_t bytes = 0;                ///< Of these.
  size_t loading_bytes = 0;        ///< Set aside for those being loaded.
  uint64_t memory_bytes = 0;       ///< What both may be at most.

  double hit_ratio() const {
    return hits + misses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(hits + misses);
  }
};

/// Does nothing; override what is of interest. Called from the cache's threads and its users', also
/// while it holds its lock: thread-safe, and never back into the cache.
class CacheProbe {
 public:
  virtual ~CacheProbe() = default;
  /// Once, at the start.
  virtual void set_budget(uint64_t /*bytes*/) {}
  /// One batch asked for experts.
  virtual void looked_up(size_t /*hits*/, size_t /*misses*/) {}
  virtual void loaded(LoadCause, size_t /*bytes*/, Duration) {}
  virtual void load_failed(LoadCause) {}
  /// `unused`: it was prefetched, and nobody needed it.
  virtual void evicted(bool /*unused*/) {}
  /// What is held after something came or went.
  virtual void holds(size_t /*experts*/, size_t /*bytes*/) {}
  /// A batch stood still for so long in all.
  virtual void waited(Duration) {}
};

}  // namespace pregate::worker
