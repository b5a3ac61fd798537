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
      return role >= kPregateEmbedding ? Part::kRouter : Part::kAttention;
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

namespace {

std::vector<size_t> pregate_shape(const ModelConfig& config, TensorRole role) {
  const PregateConfig pregate = config.pregate.value_or(PregateConfig{});
  const size_t e = pregate.embedding_size, a = pregate.attention_size, m = pregate.mlp_size;
  switch (role) {
    case kPregateEmbedding:
      return {config.vocab_size, e};
    case kPregateQuery:
    case kPregateKey:
    case kPregateValue:
      return {a, e};
    case kPregateQueryBias:
    case kPregateKeyBias:
    case kPregateValueBias:
      return {a};
    case kPregateAttentionOut:
      return {e, a};
    case kPregateMlpIn:
      return {m, e};
    case kPregateMlpInBias:
      return {m};
    case kPregateMlpOut:
      return {e, m};
    case kPregateOut:
      return {config.num_experts, e};
    case kPregateOutBias:
      return {config.num_experts};
    default:  // norms, and biases of what is added to the embedding
      return {e};
  }
}

}  // namespace

std::vector<size_t> tensor_shape(const ModelConfig& config, const TensorId& id) {
  const size_t h = config.hidden_size;
  const size_t q = config.num_heads * config.head_dim;
  const size_t kv = config.num_kv_heads * config.head_dim;
  const bool in_layer = id.layer.value < config.num_layers();
  const size_t dense = in_layer ? config.layers[id.layer.value].intermediate_size : 0;
  const size_t expert = in_layer ? config.expert_size(id.layer, id.expert) : 0;
  const size_t shared = in_layer ? config.shared_size(id.layer) : 0;
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
      return {shared, h};
    case kSharedDown:
      return {h, shared};
    case kSharedGate:
      return {1, h};
    case kExpertGate:
    case kExpertUp:
      return {expert, h};
    case kExpertDown:
      return {h, expert};
    case kFusedGateUp:
      return {config.num_experts, 2 * expert, h};
    case kFusedDown:
      return {config.num_experts, h, expert};
    default:
      return pregate_shape(config, id.role);
  }
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
  add_if(is_moe && !config.pregate, {kRouter});
  add_if(!is_moe, {kDenseGate, kDenseUp, kDenseDown});
  const bool has_shared = is_moe && config.shared_size(layer) > 0;
  add_if(has_shared, {kSharedGateProjection, kSharedUp, kSharedDown});
  add_if(has_shared && config.shared_is_gated, {kSharedGate});
  std::vector<TensorId> ids;
  for (const TensorRole role : roles) ids.push_back({.role = role, .layer = layer});
  return ids;
}

std::vector<TensorId> expert_tensors(LayerIdx layer, ExpertId expert) {
  return {{kExpertGate, layer, expert}, {kExpertUp, layer, expert}, {kExpertDown, layer, expert}};
}

std::vector<TensorId> pregate_tensors(const ModelConfig& config) {
  std::vector<TensorId> ids;
  if (!config.pregate) return ids;
  for (int role = static_cast<int>(kPregateEmbedding); role <= static_cast<int>(kPregateOutBias);
       ++role) {
    ids.push_back({.role = static_cast<TensorRole>(role)});
  }
  return ids;
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
  append(pregate_tensors(config));
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
