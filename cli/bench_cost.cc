#include "cli/bench_cost.h"

namespace pregate::cli {

using model::Part;

TokenCost token_cost(const model::ModelConfig& config, const model::ModelSummary& summary) {
  TokenCost cost;
  for (const model::PartSize& part : summary.parts) {
    const auto parameters = static_cast<double>(part.parameters);
    if (part.part == Part::kExperts) {
      cost.prefill_ops += 2.0 * parameters * static_cast<double>(config.top_k) /
                          static_cast<double>(config.num_experts);
    } else if (part.part != Part::kEmbedding) {
      cost.backbone_bytes += static_cast<double>(part.loaded_bytes);
      if (part.part != Part::kLmHead) cost.prefill_ops += 2.0 * parameters;
    }
  }
  cost.expert_bytes = static_cast<double>(summary.expert_loaded_bytes);
  cost.kv_bytes = static_cast<double>(summary.kv_bytes_per_token);
  return cost;
}

double attention_ops(const model::ModelConfig& config, double context_tokens) {
  const auto width = static_cast<double>(config.num_heads * config.head_dim);
  return 4.0 * width * context_tokens * static_cast<double>(config.num_layers());
}

}  // namespace pregate::cli
