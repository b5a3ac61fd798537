#include "monitoring/metrics/worker_probe.h"

namespace pregate::monitoring {

WorkerProbe::WorkerProbe(Registry& registry)
    : rows_(registry
                .counters("pregate_expert_rows_total",
                          "Rows computed here, once per expert they went through.")
                .Add({})),
      compute_seconds_(registry
                           .counters("pregate_expert_compute_seconds_total",
                                     "Wall time spent computing experts.")
                           .Add({})),
      expert_bytes_(
          registry.gauges("pregate_expert_bytes", "Bytes of expert weights held here.").Add({})),
      queue_depth_(
          registry
              .gauges("pregate_worker_queue_depth", "Requests received and not yet being computed.")
              .Add({})) {}

void WorkerProbe::computed(uint64_t rows, Duration duration) {
  rows_.Increment(static_cast<double>(rows));
  compute_seconds_.Increment(to_seconds(duration));
}

void WorkerProbe::set_expert_bytes(uint64_t bytes) {
  expert_bytes_.Set(static_cast<double>(bytes));
}

void WorkerProbe::set_queue_depth(uint64_t requests) {
  queue_depth_.Set(static_cast<double>(requests));
}

}  // namespace pregate::monitoring
