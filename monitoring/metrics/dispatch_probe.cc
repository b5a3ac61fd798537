#include "monitoring/metrics/dispatch_probe.h"

namespace pregate::monitoring {

DispatchProbe::DispatchProbe(Registry& registry, const DispatchProbeOptions& options)
    : tokens_(registry.counters("pregate_worker_tokens_total", "Token rows sent to a worker.")),
      seconds_(
          registry.histograms("pregate_dispatch_seconds", "From a dispatch to its whole reply.")),
      compute_seconds_(registry.counters("pregate_dispatch_compute_seconds_total",
                                         "Of dispatches, what the worker computed for.")),
      bytes_(registry.counters("pregate_dispatch_bytes_total", "Bytes to and from a worker.")),
      resent_(registry.counters("pregate_dispatch_resent_total",
                                "Token batches sent again to another worker.")),
      rows_(registry.histograms("pregate_dispatch_rows", "Rows of one dispatch to one worker.")
                .Add({}, row_buckets())),
      late_replies_(registry
                        .counters("pregate_dispatch_late_replies_total",
                                  "Replies that nobody waited for any more.")
                        .Add({})),
      num_experts_(options.num_experts) {
  // From zero on, so that a first increase is seen as one.
  for (const char* reason : {"lost", "quiet", "late", "refused"}) {
    resent_.Add({{"reason", reason}});
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

DispatchProbe::Worker& DispatchProbe::worker_locked(const std::string& name) {
  const auto found = workers_.find(name);
  if (found != workers_.end()) return found->second;
  const Worker worker{&tokens_.Add({{"worker", name}}),
                      &seconds_.Add({{"worker", name}}, dispatch_buckets()),
                      &compute_seconds_.Add({{"worker", name}}),
                      &bytes_.Add({{"worker", name}, {"direction", "sent"}}),
                      &bytes_.Add({{"worker", name}, {"direction", "received"}})};
  return workers_.emplace(name, worker).first->second;
}

void DispatchProbe::dispatched(const std::string& worker, uint64_t rows, uint64_t bytes) {
  rows_.Observe(static_cast<double>(rows));
  const std::lock_guard lock(mutex_);
  const Worker& series = worker_locked(worker);
  series.tokens->Increment(static_cast<double>(rows));
  series.sent_bytes->Increment(static_cast<double>(bytes));
}

void DispatchProbe::combined(const std::string& worker, const Took& took, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const Worker& series = worker_locked(worker);
  series.seconds->Observe(to_seconds(took.whole));
  series.compute_seconds->Increment(to_seconds(took.compute));
  series.received_bytes->Increment(static_cast<double>(bytes));
}

void DispatchProbe::routed(LayerIdx layer, ExpertId expert, uint64_t tokens) {
  if (expert_tokens_.empty()) return;
  expert_tokens_[layer.value * num_experts_ + expert.value]->Increment(static_cast<double>(tokens));
}

void DispatchProbe::forget_worker(const std::string& worker) {
  const std::lock_guard lock(mutex_);
  const auto found = workers_.find(worker);
  if (found == workers_.end()) return;
  tokens_.Remove(found->second.tokens);
  seconds_.Remove(found->second.seconds);
  compute_seconds_.Remove(found->second.compute_seconds);
  bytes_.Remove(found->second.sent_bytes);
  bytes_.Remove(found->second.received_bytes);
  workers_.erase(found);
}

}  // namespace pregate::monitoring
