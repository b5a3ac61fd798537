// Shapes of well-known models.
#pragma once

#include <span>
#include <string_view>

namespace pregate::model {

struct Preset {
  std::string_view name, family;
  size_t num_layers = 0, hidden_size = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  size_t num_experts = 0, top_k = 0, expert_intermediate_size = 0, shared_intermediate_size = 0;
  size_t vocab_size = 0, max_position = 0;
  double rope_theta = 10000.0;
  bool norm_topk_prob = false;
};

std::span<const Preset> presets();

}  // namespace pregate::model
