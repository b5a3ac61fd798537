#include "router/topk/topk_router.h"

#include <utility>

#include "base/check.h"

namespace pregate::router {

TopKRouter::TopKRouter(compute::Backend& backend, Options options)
    : backend_(backend), options_(std::move(options)) {
  PREGATE_CHECK(options_.top_k <= options_.num_experts);
}

void TopKRouter::route(LayerIdx layer, compute::Matrix<const float> rows, Decisions& out) {
  const compute::PackedMatrix* gate = options_.gates.at(layer.value);
  PREGATE_CHECK(gate != nullptr && options_.top_k > 0);
  const auto logits = gate_logits(backend_, *gate, rows, logits_);
  out.top_k = options_.top_k;
  out.expert_ids.clear();
  out.gates.clear();
  for (size_t r = 0; r < rows.rows; ++r) {
    choose_top_k(logits.row(r), options_.top_k, options_.normalize, probabilities_, out);
  }
}

}  // namespace pregate::router
