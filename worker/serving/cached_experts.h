// Experts of this process, of which only a part is in memory.
#pragma once

#include <memory>
#include <vector>

#include "engine/expert_client.h"
#include "worker/serving/leased_tasks.h"

namespace pregate::worker {

/// Computes what is in memory first, and the others as they arrive, but adds a row's experts in
/// ascending order of id, as engine::LocalExperts does: the bits are the same with any budget.
/// One dispatch is open at a time.
class CachedExperts final : public engine::ExpertClient {
 public:
  /// `backend` outlives it. `num_layers`: of the model, by which times are counted.
  CachedExperts(compute::Backend& backend, std::unique_ptr<ExpertCache> cache, size_t num_layers);
  ~CachedExperts() override;

  Result<engine::DispatchTicket> dispatch(const engine::ExpertBatch& batch) override;
  /// kUnavailable, naming the expert, when one cannot be loaded.
  Result<std::vector<engine::HomelessRow>> combine(engine::DispatchTicket ticket,
                                                   compute::Matrix<float> out) override;
  void expect(const router::Plan& plan, router::LayerTime now) override;

  const ExpertCache& cache() const { return *cache_; }

 private:
  /// What goes through one expert.
  struct Assignment {
    std::vector<uint32_t> rows;
    std::vector<float> gates;
  };

  const std::unique_ptr<ExpertCache> cache_;
  const size_t num_layers_;
  LeasedTasks tasks_;

  // The open dispatch.
  engine::DispatchTicket open_ticket_ = 0;
  compute::EncodedRows rows_;
  std::vector<Assignment> assignments_;  // ascending by expert, as the lease's keys
  std::unique_ptr<ExpertCache::Lease> lease_;
};

}  // namespace pregate::worker
