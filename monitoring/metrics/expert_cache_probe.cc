#include "monitoring/metrics/expert_cache_probe.h"

namespace pregate::monitoring {
namespace {

prometheus::Counter& counter(Registry& registry, const std::string& name, const std::string& help) {
  return registry.counters("pregate_expert_cache_" + name, help).Add({});
}

prometheus::Gauge& gauge(Registry& registry, const std::string& name, const std::string& help) {
  return registry.gauges("pregate_expert_cache_" + name, help).Add({});
}

}  // namespace

ExpertCacheProbe::ExpertCacheProbe(Registry& registry)
    : loads_(registry.counters("pregate_expert_cache_loads_total",
                               "Experts loaded, because a batch waited or ahead of need.")),
      demand_loads_(loads_.Add({{"cause", "demand"}})),
      prefetch_loads_(loads_.Add({{"cause", "prefetch"}})),
      load_errors_(registry.counters("pregate_expert_cache_load_errors_total",
                                     "Attempts to load an expert that failed.")),
      demand_errors_(load_errors_.Add({{"cause", "demand"}})),
      prefetch_errors_(load_errors_.Add({{"cause", "prefetch"}})),
      hits_(counter(registry, "hits_total", "Experts that a batch needed and that were there.")),
      misses_(counter(registry, "misses_total",
                      "Experts that a batch needed and that were not there, or not yet.")),
      evictions_(counter(registry, "evictions_total", "Experts that made room for others.")),
      unused_prefetches_(counter(registry, "unused_prefetches_total",
                                 "Experts that were prefetched and evicted before any use.")),
      load_seconds_(counter(registry, "load_seconds_total",
                            "Time spent reading and packing experts, over all loading threads.")),
      resident_bytes_(gauge(registry, "resident_bytes", "Bytes of experts in memory.")),
      budget_bytes_(gauge(registry, "budget_bytes", "What these may be at most.")),
      wait_seconds_(registry
                        .histograms("pregate_expert_cache_wait_seconds",
                                    "How long a batch stood still until experts were loaded.")
                        .Add({}, cache_wait_buckets())) {}

void ExpertCacheProbe::set_budget(uint64_t bytes) { budget_bytes_.Set(static_cast<double>(bytes)); }

void ExpertCacheProbe::looked_up(uint64_t hits, uint64_t misses) {
  hits_.Increment(static_cast<double>(hits));
  misses_.Increment(static_cast<double>(misses));
}

void ExpertCacheProbe::loaded_on_demand(Duration took) {
  demand_loads_.Increment();
  load_seconds_.Increment(to_seconds(took));
}

void ExpertCacheProbe::prefetched(Duration took) {
  prefetch_loads_.Increment();
  load_seconds_.Increment(to_seconds(took));
}

void ExpertCacheProbe::demand_failed() { demand_errors_.Increment(); }

void ExpertCacheProbe::prefetch_failed() { prefetch_errors_.Increment(); }

void ExpertCacheProbe::evicted(bool unused) {
  evictions_.Increment();
  if (unused) unused_prefetches_.Increment();
}

void ExpertCacheProbe::set_resident(uint64_t bytes) {
  resident_bytes_.Set(static_cast<double>(bytes));
}

void ExpertCacheProbe::waited(Duration duration) { wait_seconds_.Observe(to_seconds(duration)); }

}  // namespace pregate::monitoring
