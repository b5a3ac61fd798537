#include "model/families/tensors.h"

namespace pregate::model {

using enum TensorRole;

Part part_of(TensorRole role) {
  switch (role) {
    case kEmbedding:
      return Part::kEmbedding;
    case kLmHead:
      return Part::kLmHead;
    case kFinalNorm:
    case kInputNorm:
    case kPostAttentionNorm:
      return Part::kNorms;
    case kRouter:
      return Part::kRouter;
    case kDenseGate:
    case kDenseUp:
    case kDenseDown:
      return Part::kDense;
    case kSharedGateProjection:
    case kSharedUp:
    case kSharedDown:
    case kSharedGate:
      return Part::kShared;
    case kExpertGate:
    case kExpertUp:
    case kExpertDown:
    case kFusedGateUp:
    case kFusedDown:
      return Part::kExperts;
    default:
      return Part::kAttention;
  }
}

std::string_view to_string(Part part) {
  switch (part) {
    case Part::kEmbedding:
      return "embedding";
    case Part::kAttention:
      return "attention";
    case Part::kNorms:
      return "norms";
    case Part::kRouter:
      return "router";
    case Part::kShared:
      return "shared experts";
    case Part::kDense:
      return "dense layers";
    case Part::kExperts:
      return "experts";
    case Part::kLmHead:
      return "lm_head";
  }
  return "?";
}

std::vector<size_t> tensor_shape(const ModelConfig& config, const TensorId& id) {
  const size_t h = config.hidden_size;
  const size_t q = config.num_heads * config.head_dim;
  const size_t kv = config.num_kv_heads * config.head_dim;
  const size_t dense =
      id.layer.value < config.num_layers() ? config.layers[id.layer.value].intermediate_size : 0;
  const bool per_head = config.qk_norm == QkNorm::kPerHead;
  switch (id.role) {
    case kEmbedding:
    case kLmHead:
      return {config.vocab_size, h};
    case kFinalNorm:
    case kInputNorm:
    case kPostAttentionNorm:
    case kAttentionOutBias:
      return {h};
    case kQuery:
      return {q, h};
    case kKey:
    case kValue:
      return {kv, h};
    case kAttentionOut:
      return {h, q};
    case kQueryBias:
      return {q};
    case kKeyBias:
    case kValueBias:
      return {kv};
    case kQueryNorm:
      return {per_head ? config.head_dim : q};
    case kKeyNorm:
      return {per_head ? config.head_dim : kv};
    case kRouter:
      return {config.num_experts, h};
    case kDenseGate:
    case kDenseUp:
      return {dense, h};
    case kDenseDown:
      return {h, dense};
    case kSharedGateProjection:
    case kSharedUp:
      return {config.shared_intermediate_size, h};
    case kSharedDown:
      return {h, config.shared_intermediate_size};
    case kSharedGate:
      return {1, h};
    case kExpertGate:
    case kExpertUp:
      return {config.expert_intermediate_size, h};
    case kExpertDown:
      return {h, config.expert_intermediate_size};
    case kFusedGateUp:
      return {config.num_experts, 2 * config.expert_intermediate_size, h};
    case kFusedDown:
      return {config.num_experts, h, config.expert_intermediate_size};
  }
  return {};
}

std::vector<TensorId> layer_tensors(const ModelConfig& config, LayerIdx layer) {
  std::vector<TensorRole> roles{kInputNorm, kQuery,        kKey,
                                kValue,     kAttentionOut, kPostAttentionNorm};
  const auto add_if = [&](bool wanted, std::initializer_list<TensorRole> more) {
    if (wanted) roles.insert(roles.end(), more);
  };
  const bool is_moe = config.layers[layer.value].is_moe;
  add_if(config.qkv_bias, {kQueryBias, kKeyBias, kValueBias});
  add_if(config.attention_out_bias, {kAttentionOutBias});
  add_if(config.qk_norm != QkNorm::kNone, {kQueryNorm, kKeyNorm});
  add_if(is_moe, {kRouter});
  add_if(!is_moe, {kDenseGate, kDenseUp, kDenseDown});
  add_if(is_moe && config.shared_intermediate_size > 0,
         {kSharedGateProjection, kSharedUp, kSharedDown, kSharedGate});
  std::vector<TensorId> ids;
  for (const TensorRole role : roles) ids.push_back({.role = role, .layer = layer});
  return ids;
}

std::vector<TensorId> expert_tensors(LayerIdx layer, ExpertId expert) {
  return {{kExpertGate, layer, expert}, {kExpertUp, layer, expert}, {kExpertDown, layer, expert}};
}

std::vector<TensorId> outer_tensors(const ModelConfig& config) {
  std::vector<TensorId> ids{{.role = kEmbedding}, {.role = kFinalNorm}};
  if (!config.tie_embeddings) ids.push_back({.role = kLmHead});
  return ids;
}

std::vector<TensorId> all_tensors(const ModelConfig& config) {
  std::vector<TensorId> ids = outer_tensors(config);
  const auto append = [&](const std::vector<TensorId>& more) {
    ids.insert(ids.end(), more.begin(), more.end());
  };
  for (uint32_t l = 0; l < config.num_layers(); ++l) {
    append(layer_tensors(config, LayerIdx{l}));
    if (!config.layers[l].is_moe) continue;
    for (uint32_t e = 0; e < config.num_experts; ++e) {
      append(expert_tensors(LayerIdx{l}, ExpertId{e}));
    }
  }
  return ids;
}

}  // namespace pregate::model
