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
      experts_(registry.gauges("pregate_experts", "Experts held here.").Add({})),
      expert_bytes_(
          registry.gauges("pregate_expert_bytes", "Bytes of expert weights held here.").Add({})),
      loads_(registry.counters("pregate_expert_loads_total", "Experts loaded.").Add({})),
      load_errors_(registry
                       .counters("pregate_expert_load_errors_total",
                                 "Attempts to load an expert that failed.")
                       .Add({})),
      waiting_(registry
                   .gauges("pregate_experts_waiting_for_room",
                           "Experts to load that wait until others are dropped.")
                   .Add({})),
      joined_(
          registry
              .gauges("pregate_joined", "1 while the coordinator counts this worker in, else 0.")
              .Add({})),
      reconnects_(registry
                      .counters("pregate_reconnects_total",
                                "Times this worker joined again after it lost the coordinator.")
                      .Add({})),
      queue_depth_(
          registry
              .gauges("pregate_worker_queue_depth", "Requests received and not yet being computed.")
              .Add({})) {}

void WorkerProbe::computed(uint64_t rows, Duration duration) {
  rows_.Increment(static_cast<double>(rows));
  compute_seconds_.Increment(to_seconds(duration));
}

void WorkerProbe::set_experts(uint64_t experts, uint64_t bytes) {
  experts_.Set(static_cast<double>(experts));
  expert_bytes_.Set(static_cast<double>(bytes));
}

void WorkerProbe::expert_loaded() { loads_.Increment(); }

void WorkerProbe::load_failed() { load_errors_.Increment(); }

void WorkerProbe::set_waiting_for_room(uint64_t experts) {
  waiting_.Set(static_cast<double>(experts));
}

void WorkerProbe::set_joined(bool joined) { joined_.Set(joined ? 1 : 0); }

void WorkerProbe::rejoined() { reconnects_.Increment(); }

void WorkerProbe::set_queue_depth(uint64_t requests) {
  queue_depth_.Set(static_cast<double>(requests));
}

}  // namespace pregate::monitoring
