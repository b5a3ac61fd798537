#include "worker/serving/cached_experts.h"

#include <map>

#include "base/check.h"

namespace pregate::worker {

CachedExperts::CachedExperts(compute::Backend& backend, std::unique_ptr<ExpertCache> cache,
                             size_t num_layers)
    : cache_(std::move(cache)), num_layers_(num_layers), tasks_(backend) {}

CachedExperts::~CachedExperts() = default;

void CachedExperts::expect(const router::Plan& plan, router::LayerTime now) {
  cache_->expect(plan, now);
}

Result<engine::DispatchTicket> CachedExperts::dispatch(const engine::ExpertBatch& batch) {
  PREGATE_CHECK(lease_ == nullptr);
  std::map<ExpertId, Assignment> by_expert;
  for (size_t i = 0; i < batch.expert_ids.size(); ++i) {
    Assignment& assignment = by_expert[batch.expert_ids[i]];
    assignment.rows.push_back(static_cast<uint32_t>(i / batch.top_k));
    assignment.gates.push_back(batch.gates[i]);
  }
  rows_ = batch.rows;
  assignments_.clear();
  std::vector<ExpertKey> keys;
  for (auto& [expert, assignment] : by_expert) {
    keys.emplace_back(batch.layer, expert);
    assignments_.push_back(std::move(assignment));
  }
  lease_ = cache_->acquire(std::move(keys), batch.step * num_layers_ + batch.layer.value);
  return ++open_ticket_;
}

Result<std::vector<engine::HomelessRow>> CachedExperts::combine(engine::DispatchTicket ticket,
                                                                compute::Matrix<float> out) {
  PREGATE_CHECK(ticket == open_ticket_ && lease_ != nullptr);
  const auto lease = std::move(lease_);
  std::vector<compute::ExpertTask> tasks;
  for (const auto& [rows, gates] : assignments_) {
    tasks.push_back({.expert = nullptr, .rows = rows, .out_rows = rows, .gates = gates});
  }
  PREGATE_TRY(tasks_.compute(*lease, rows_, tasks, out));
  return {};
}

}  // namespace pregate::worker
