#pragma once

#include <cstdint>

#include "base/clock.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

/// What a process that owns experts counts. Thread-safe.
class WorkerProbe {
 public:
  explicit WorkerProbe(Registry& registry);

  /// One request computed: `rows` counts each row once per expert it went through.
  void computed(uint64_t rows, Duration duration);
  void set_expert_bytes(uint64_t bytes);
  void set_queue_depth(uint64_t requests);

 private:
  prometheus::Counter& rows_;
  prometheus::Counter& compute_seconds_;
  prometheus::Gauge& expert_bytes_;
  prometheus::Gauge& queue_depth_;
};

}  // namespace pregate::monitoring
