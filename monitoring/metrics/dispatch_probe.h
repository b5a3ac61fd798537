#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

struct DispatchProbeOptions {
  std::vector<std::string> worker_names;  ///< A worker is named by its place in this list.
  size_t num_layers = 0;
  size_t num_experts = 0;
  /// One series per layer and expert: 1,024 for a model of 16 layers of 64 experts.
  bool per_expert = false;
};

/// What the coordinator's dispatch counts. Thread-safe.
class DispatchProbe {
 public:
  DispatchProbe(Registry& registry, const DispatchProbeOptions& options);

  void dispatched(size_t worker, uint64_t rows, uint64_t bytes);
  /// `duration`: from the send until the reply was whole.
  void combined(size_t worker, Duration duration, uint64_t bytes);
  void late_reply() { late_replies_.Increment(); }
  void set_worker_up(size_t worker, bool up) { workers_[worker].up->Set(up ? 1 : 0); }
  /// Does nothing unless per_expert was asked for.
  void routed(LayerIdx layer, ExpertId expert, uint64_t tokens);

 private:
  struct Worker {
    prometheus::Counter* tokens;
    prometheus::Gauge* up;
    prometheus::Histogram* seconds;
    prometheus::Counter* sent_bytes;
    prometheus::Counter* received_bytes;
  };

  std::vector<Worker> workers_;
  prometheus::Histogram& rows_;
  prometheus::Counter& late_replies_;
  const size_t num_experts_;
  std::vector<prometheus::Counter*> expert_tokens_;  // [layer * num_experts + expert], or empty
};

}  // namespace pregate::monitoring
