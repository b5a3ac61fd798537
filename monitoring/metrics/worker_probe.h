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
  /// What is held now.
  void set_experts(uint64_t experts, uint64_t bytes);
  void expert_loaded();
  void load_failed();
  /// So many wait for memory; 0: none any more.
  void set_waiting_for_room(uint64_t experts);
  void set_joined(bool joined);
  void rejoined();
  void set_queue_depth(uint64_t requests);

 private:
  prometheus::Counter& rows_;
  prometheus::Counter& compute_seconds_;
  prometheus::Gauge& experts_;
  prometheus::Gauge& expert_bytes_;
  prometheus::Counter& loads_;
  prometheus::Counter& load_errors_;
  prometheus::Gauge& waiting_;
  prometheus::Gauge& joined_;
  prometheus::Counter& reconnects_;
  prometheus::Gauge& queue_depth_;
};

}  // namespace pregate::monitoring
