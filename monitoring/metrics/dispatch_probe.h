#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

struct DispatchProbeOptions {
  size_t num_layers = 0;
  size_t num_experts = 0;
  /// One series per layer and expert: 1,024 for a model of 16 layers of 64 experts.
  bool per_expert = false;
};

/// What the coordinator's dispatch counts. Workers come and go: the series of one appear when it is
/// first named. Thread-safe.
class DispatchProbe {
 public:
  DispatchProbe(Registry& registry, const DispatchProbeOptions& options);

  void dispatched(const std::string& worker, uint64_t rows, uint64_t bytes);
  struct Took {
    Duration whole{};    ///< From the send until the reply was whole.
    Duration compute{};  ///< Of it, what the worker computed for.
  };
  void combined(const std::string& worker, const Took& took, uint64_t bytes);
  void late_reply() { late_replies_.Increment(); }
  /// `reason`: lost, quiet, late or refused.
  void resent(const std::string& reason) { resent_.Add({{"reason", reason}}).Increment(); }
  /// Does nothing unless per_expert was asked for.
  void routed(LayerIdx layer, ExpertId expert, uint64_t tokens);
  /// Its series end.
  void forget_worker(const std::string& worker);

 private:
  struct Worker {
    prometheus::Counter* tokens;
    prometheus::Histogram* seconds;
    prometheus::Counter* compute_seconds;
    prometheus::Counter* sent_bytes;
    prometheus::Counter* received_bytes;
  };
  Worker& worker_locked(const std::string& name);

  prometheus::Family<prometheus::Counter>& tokens_;
  prometheus::Family<prometheus::Histogram>& seconds_;
  prometheus::Family<prometheus::Counter>& compute_seconds_;
  prometheus::Family<prometheus::Counter>& bytes_;
  prometheus::Family<prometheus::Counter>& resent_;
  prometheus::Histogram& rows_;
  prometheus::Counter& late_replies_;
  const size_t num_experts_;
  std::vector<prometheus::Counter*> expert_tokens_;  // [layer * num_experts + expert], or empty

  std::mutex mutex_;                       // held while a worker's series are used: they can end
  std::map<std::string, Worker> workers_;  // guarded by mutex_
};

}  // namespace pregate::monitoring
