#include "monitoring/metrics/dispatch_probe.h"

namespace pregate::monitoring {

DispatchProbe::DispatchProbe(Registry& registry, const DispatchProbeOptions& options)
    : rows_(registry.histograms("pregate_dispatch_rows", "Rows of one dispatch to one worker.")
                .Add({}, row_buckets())),
      late_replies_(registry
                        .counters("pregate_dispatch_late_replies_total",
                                  "Replies that came after their deadline and were dropped.")
                        .Add({})),
      num_experts_(options.num_experts) {
  auto& tokens = registry.counters("pregate_worker_tokens_total", "Token rows sent to a worker.");
  auto& up = registry.gauges("pregate_worker_up", "1 while the worker answers, else 0.");
  auto& seconds =
      registry.histograms("pregate_dispatch_seconds", "From a dispatch to its whole reply.");
  auto& bytes = registry.counters("pregate_dispatch_bytes_total", "Bytes to and from a worker.");
  for (const std::string& name : options.worker_names) {
    workers_.push_back({&tokens.Add({{"worker", name}}), &up.Add({{"worker", name}}),
                        &seconds.Add({{"worker", name}}, dispatch_buckets()),
                        &bytes.Add({{"worker", name}, {"direction", "sent"}}),
                        &bytes.Add({{"worker", name}, {"direction", "received"}})});
  }
  if (!options.per_expert) return;
  auto& experts = registry.counters("pregate_expert_tokens_total", "Tokens routed to an expert.");
  for (size_t layer = 0; layer < options.num_layers; ++layer) {
    for (size_t expert = 0; expert < options.num_experts; ++expert) {
      expert_tokens_.push_back(
          &experts.Add({{"layer", std::to_string(layer)}, {"expert", std::to_string(expert)}}));
    }
  }
}

void DispatchProbe::dispatched(size_t worker, uint64_t rows, uint64_t bytes) {
  workers_[worker].tokens->Increment(static_cast<double>(rows));
  workers_[worker].sent_bytes->Increment(static_cast<double>(bytes));
  rows_.Observe(static_cast<double>(rows));
}

void DispatchProbe::combined(size_t worker, Duration duration, uint64_t bytes) {
  workers_[worker].seconds->Observe(to_seconds(duration));
  workers_[worker].received_bytes->Increment(static_cast<double>(bytes));
}

void DispatchProbe::routed(LayerIdx layer, ExpertId expert, uint64_t tokens) {
  if (expert_tokens_.empty()) return;
  expert_tokens_[layer.value * num_experts_ + expert.value]->Increment(static_cast<double>(tokens));
}

}  // namespace pregate::monitoring
