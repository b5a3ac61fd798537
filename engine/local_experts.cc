#include "engine/local_experts.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "model/checkpoint/checkpoint.h"

namespace pregate::engine {

Result<ExpertTable> load_all_experts(const model::Checkpoint& checkpoint, compute::Backend& backend,
                                     compute::WeightFormat format,
                                     const model::LoadProgress& progress) {
  const model::ModelConfig& config = checkpoint.config();
  ExpertTable experts(config.num_layers());
  size_t num_layers = 0, num_loaded = 0;
  for (const auto& layer : config.layers) num_layers += layer.is_moe;
  const size_t total = num_layers * config.num_experts;
  size_t bytes = 0;
  for (uint32_t layer = 0; layer < config.num_layers(); ++layer) {
    if (!config.layers[layer].is_moe) continue;
    for (uint32_t e = 0; e < config.num_experts; ++e) {
      PREGATE_ASSIGN(auto expert,
                     model::load_expert(checkpoint, LayerIdx(layer), ExpertId(e), backend, format));
      bytes += expert->bytes();
      experts[layer].push_back(std::move(expert));
      if (progress) progress(bytes, bytes / ++num_loaded * total);
    }
  }
  return experts;
}

LocalExperts::LocalExperts(compute::Backend& backend, ExpertTable experts)
    : backend_(backend), experts_(std::move(experts)) {}

Result<std::unique_ptr<LocalExperts>> LocalExperts::create(compute::Backend& backend,
                                                           ExpertTable experts) {
  std::unique_ptr<LocalExperts> local(new LocalExperts(backend, std::move(experts)));
  PREGATE_TRY(local->make_groups());
  return local;
}

Status LocalExperts::make_groups() {
  compute::Unattended* const unattended = backend_.unattended();
  if (unattended == nullptr) return {};
  std::vector<std::unique_ptr<compute::ExpertGroup>> groups;
  for (const auto& layer : experts_) {
    if (layer.size() > unattended->max_experts()) return {};
    groups.emplace_back();
    if (layer.empty()) continue;
    std::vector<const compute::PackedExpert*> experts;
    for (const model::ExpertPtr& expert : layer) experts.push_back(expert.get());
    PREGATE_ASSIGN(groups.back(), unattended->group(experts));
  }
  groups_ = std::move(groups);
  return {};
}

size_t LocalExperts::max_unattended_rows(size_t top_k) const {
  if (groups_.empty() || top_k == 0) return 0;
  size_t max_rows = std::numeric_limits<size_t>::max();
  for (const auto& group : groups_) {
    if (group == nullptr) continue;
    max_rows = std::min(max_rows, backend_.unattended()->max_rows(*group, top_k));
  }
  return max_rows;
}

void LocalExperts::run_unattended(LayerIdx layer, const compute::EncodedRows& rows,
                                  const compute::TopK& chosen, compute::Matrix<float> out) {
  backend_.unattended()->routed_experts(rows, *groups_.at(layer.value), chosen, out);
}

Result<DispatchTicket> LocalExperts::dispatch(const ExpertBatch& batch) {
  rows_ = batch.rows;
  open_layer_ = batch.layer.value;
  assignments_.resize(experts_.at(open_layer_).size());
  for (Assignment& assignment : assignments_) {
    assignment.rows.clear();
    assignment.gates.clear();
  }
  for (size_t i = 0; i < batch.expert_ids.size(); ++i) {
    Assignment& assignment = assignments_.at(batch.expert_ids[i].value);
    assignment.rows.push_back(static_cast<uint32_t>(i / batch.top_k));
    assignment.gates.push_back(batch.gates[i]);
  }
  return ++open_ticket_;
}

Result<std::vector<HomelessRow>> LocalExperts::combine(DispatchTicket ticket,
                                                       compute::Matrix<float> out) {
  PREGATE_CHECK(ticket == open_ticket_);
  std::vector<compute::ExpertTask> tasks;
  for (size_t e = 0; e < assignments_.size(); ++e) {
    const Assignment& assignment = assignments_[e];
    if (assignment.rows.empty()) continue;
    tasks.push_back(
        {experts_[open_layer_][e].get(), assignment.rows, assignment.rows, assignment.gates});
  }
  backend_.experts(rows_, tasks, out);
  return {};
}

}  // namespace pregate::engine
