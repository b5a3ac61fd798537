// What a token must cost at the least: the operations and the bytes no implementation can avoid.
#pragma once

#include "model/summary.h"

namespace pregate::cli {

struct TokenCost {
  double prefill_ops = 0;     ///< Multiplications and additions per prompt token, without lm_head.
  double backbone_bytes = 0;  ///< Weights every step reads, lm_head included.
  double expert_bytes = 0;    ///< Of one routed expert.
  double kv_bytes = 0;        ///< Keys and values of one token, over all layers.
};

TokenCost token_cost(const model::ModelConfig& config, const model::ModelSummary& summary);

/// Attention's operations for one token that sees `context_tokens`: two products per layer and
/// head.
double attention_ops(const model::ModelConfig& config, double context_tokens);

}  // namespace pregate::cli
