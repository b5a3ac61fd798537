// Experts in this process: the whole model on one machine.
#pragma once

#include <vector>

#include "compute/backend.h"
#include "engine/expert_client.h"
#include "model/weights.h"

namespace pregate::engine {

/// The routed experts a process holds: experts[layer][expert], null where it holds none.
using ExpertTable = std::vector<std::vector<model::ExpertPtr>>;

/// Loads every routed expert of the checkpoint.
Result<ExpertTable> load_all_experts(const model::Checkpoint& checkpoint, compute::Backend& backend,
                                     compute::WeightFormat format,
                                     const model::LoadProgress& progress);

/// Adds a row's experts in ascending order of id, as remote experts do with --reproducible.
class LocalExperts final : public ExpertClient {
 public:
  /// `backend`: the engine's. Error: kResourceExhausted.
  static Result<std::unique_ptr<LocalExperts>> create(compute::Backend& backend,
                                                      ExpertTable experts);

  Result<DispatchTicket> dispatch(const ExpertBatch& batch) override;
  Result<std::vector<HomelessRow>> combine(DispatchTicket ticket,
                                           compute::Matrix<float> out) override;
  size_t max_unattended_rows(size_t top_k) const override;
  void run_unattended(LayerIdx layer, const compute::EncodedRows& rows, const compute::TopK& chosen,
                      compute::Matrix<float> out) override;

 private:
  LocalExperts(compute::Backend& backend, ExpertTable experts);
  Status make_groups();

  struct Assignment {
    std::vector<uint32_t> rows;
    std::vector<float> gates;
  };

  compute::Backend& backend_;
  const ExpertTable experts_;
  /// [layer], null where it has no experts; empty: the back end does nothing unattended.
  std::vector<std::unique_ptr<compute::ExpertGroup>> groups_;
  // The open dispatch.
  DispatchTicket open_ticket_ = 0;
  uint32_t open_layer_ = 0;
  compute::EncodedRows rows_;
  std::vector<Assignment> assignments_;  // per expert
};

}  // namespace pregate::engine
