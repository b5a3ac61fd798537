#include "worker/serving/planned_cache.h"

#include <algorithm>

namespace pregate::worker {
namespace {

/// Of what a coordinator says, so that nothing overflows.
constexpr uint64_t kMaxTime = uint64_t{1} << 60;

int64_t rounded_up(int64_t value, int64_t multiple) {
  const int64_t rest = value % multiple;
  return rest > 0 ? value - rest + multiple : value - rest;
}

}  // namespace

router::LayerTime PlannedCache::time_of(uint64_t connection, uint64_t coordinator_time) {
  const auto said = static_cast<int64_t>(std::min(coordinator_time, kMaxTime));
  std::lock_guard lock(mutex_);
  if (connection > connection_) {
    connection_ = connection;
    offset_ = rounded_up(last_ + 1 - said, num_layers_);
  }
  if (connection == connection_) last_ = std::max(last_, said + offset_);
  return static_cast<router::LayerTime>(
      connection == connection_ ? std::max<int64_t>(said + offset_, 0) : last_);
}

void PlannedCache::expect(uint64_t connection, const protocol::ExpertPlan& plan) {
  const router::LayerTime now = time_of(connection, plan.now);
  router::Plan planned;
  for (const protocol::PlannedExpert& expert : plan.experts) {
    if (store_.find({expert.layer, expert.expert}) == nullptr) continue;
    planned.push_back(
        {expert.layer, expert.expert, now + expert.ahead, expert.certain, expert.likelihood});
  }
  cache_.expect(planned, now);
}

std::unique_ptr<ExpertCache::Lease> PlannedCache::acquire(uint64_t connection,
                                                          const protocol::ExpertRequest& request,
                                                          std::vector<ExpertKey> keys) {
  const uint64_t steps = std::min(request.step, kMaxTime / static_cast<uint64_t>(num_layers_) - 1);
  const uint64_t said = steps * static_cast<uint64_t>(num_layers_) + request.layer.value;
  return cache_.acquire(std::move(keys), time_of(connection, said));
}

}  // namespace pregate::worker
