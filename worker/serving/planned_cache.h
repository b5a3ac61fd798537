// A cache of experts that goes by the coordinator's plans and its time: layers that its engine has
// computed.
#pragma once

#include <mutex>

#include "protocol/messages.h"
#include "worker/experts/cache/expert_cache.h"
#include "worker/experts/store.h"

namespace pregate::worker {

/// Thread-safe. `connection` counts up: another one may be that of a coordinator that started anew
/// and counts from zero. Time goes on here all the same, and layers keep their place in a step.
class PlannedCache {
 public:
  /// What is referred to outlives it. Plans are followed for what `store` holds. `num_layers`: of
  /// the model, dense ones too.
  PlannedCache(ExpertCache& cache, const ExpertStore& store, size_t num_layers)
      : cache_(cache), store_(store), num_layers_(static_cast<int64_t>(num_layers)) {}

  void expect(uint64_t connection, const protocol::ExpertPlan& plan);
  std::unique_ptr<ExpertCache::Lease> acquire(uint64_t connection,
                                              const protocol::ExpertRequest& request,
                                              std::vector<ExpertKey> keys);

 private:
  router::LayerTime time_of(uint64_t connection, uint64_t coordinator_time);

  ExpertCache& cache_;
  const ExpertStore& store_;
  const int64_t num_layers_;

  std::mutex mutex_;
  uint64_t connection_ = 0;  // guarded by mutex_
  int64_t offset_ = 0;       // guarded by mutex_: a multiple of num_layers_
  int64_t last_ = 0;         // guarded by mutex_: the latest time
};

}  // namespace pregate::worker
