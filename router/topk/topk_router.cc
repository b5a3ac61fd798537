#include "router/topk/topk_router.h"

#include <utility>

#include "base/check.h"
#include "compute/f32_rows.h"

namespace pregate::router {

TopKRouter::TopKRouter(compute::Backend& backend, Options options)
    : backend_(backend), options_(std::move(options)), logits_memory_(backend) {
  PREGATE_CHECK(options_.top_k <= options_.num_experts);
}

Status TopKRouter::begin_step(const StepTokens& step) {
  PREGATE_ASSIGN(logits_, logits_memory_.take_rows(step.tokens.size(), options_.num_experts));
  return {};
}

void TopKRouter::route(LayerIdx layer, compute::Matrix<const float> rows, Decisions& out) {
  out.top_k = options_.top_k;
  ids_.resize(rows.rows * out.top_k);
  out.gates.resize(ids_.size());
  route_unattended(layer, rows, {ids_, out.gates});
  out.expert_ids.clear();
  for (const uint32_t id : ids_) out.expert_ids.emplace_back(id);
}

void TopKRouter::route_unattended(LayerIdx layer, compute::Matrix<const float> rows,
                                  const compute::TopK& chosen) {
  const compute::PackedMatrix* gate = options_.gates.at(layer.value);
  PREGATE_CHECK(gate != nullptr && options_.top_k > 0 && rows.rows == logits_.rows);
  backend_.linear(compute::f32_rows(rows), *gate, {}, logits_);
  backend_.choose_top_k(logits_, {options_.top_k, options_.normalize}, chosen);
}

}  // namespace pregate::router
