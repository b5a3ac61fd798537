#pragma once

#include <cstdint>

#include "base/clock.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

/// What a process counts that keeps its experts within a budget. Thread-safe.
class ExpertCacheProbe {
 public:
  explicit ExpertCacheProbe(Registry& registry);

  void set_budget(uint64_t bytes);
  /// A batch needed experts, of which so many were there.
  void looked_up(uint64_t hits, uint64_t misses);
  void loaded_on_demand(Duration took);
  void prefetched(Duration took);
  void demand_failed();
  void prefetch_failed();
  /// `unused`: it was prefetched in vain.
  void evicted(bool unused);
  void set_resident(uint64_t bytes);
  /// A batch stood still for so long.
  void waited(Duration duration);

 private:
  prometheus::Family<prometheus::Counter>& loads_;
  prometheus::Counter &demand_loads_, &prefetch_loads_;
  prometheus::Family<prometheus::Counter>& load_errors_;
  prometheus::Counter &demand_errors_, &prefetch_errors_;
  prometheus::Counter& hits_;
  prometheus::Counter& misses_;
  prometheus::Counter& evictions_;
  prometheus::Counter& unused_prefetches_;
  prometheus::Counter& load_seconds_;
  prometheus::Gauge& resident_bytes_;
  prometheus::Gauge& budget_bytes_;
  prometheus::Histogram& wait_seconds_;
};

}  // namespace pregate::monitoring
