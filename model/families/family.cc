#include "model/families/family.h"

#include <fmt/format.h>

namespace pregate::model {
namespace {

using enum TensorRole;

/// The part of the name after "model.layers.<layer>.", of roles without an expert.
std::string_view layer_suffix(TensorRole role) {
  switch (role) {
    case kInputNorm:
      return "input_layernorm.weight";
    case kPostAttentionNorm:
      return "post_attention_layernorm.weight";
    case kQuery:
      return "self_attn.q_proj.weight";
    case kKey:
      return "self_attn.k_proj.weight";
    case kValue:
      return "self_attn.v_proj.weight";
    case kAttentionOut:
      return "self_attn.o_proj.weight";
    case kQueryBias:
      return "self_attn.q_proj.bias";
    case kKeyBias:
      return "self_attn.k_proj.bias";
    case kValueBias:
      return "self_attn.v_proj.bias";
    case kAttentionOutBias:
      return "self_attn.o_proj.bias";
    case kQueryNorm:
      return "self_attn.q_norm.weight";
    case kKeyNorm:
      return "self_attn.k_norm.weight";
    case kRouter:
      return "mlp.gate.weight";
    case kDenseGate:
      return "mlp.gate_proj.weight";
    case kDenseUp:
      return "mlp.up_proj.weight";
    case kDenseDown:
      return "mlp.down_proj.weight";
    case kSharedGateProjection:
      return "mlp.shared_expert.gate_proj.weight";
    case kSharedUp:
      return "mlp.shared_expert.up_proj.weight";
    case kSharedDown:
      return "mlp.shared_expert.down_proj.weight";
    case kSharedGate:
      return "mlp.shared_expert_gate.weight";
    case kFusedGateUp:
      return "mlp.experts.gate_up_proj";
    case kFusedDown:
      return "mlp.experts.down_proj";
    default:
      return "";
  }
}

}  // namespace

std::string Family::tensor_name(const TensorId& id) const {
  const auto of_expert = [&](std::string_view projection) {
    return fmt::format("model.layers.{}.mlp.experts.{}.{}.weight", id.layer, id.expert, projection);
  };
  switch (id.role) {
    case kEmbedding:
      return "model.embed_tokens.weight";
    case kFinalNorm:
      return "model.norm.weight";
    case kLmHead:
      return "lm_head.weight";
    case kExpertGate:
      return of_expert("gate_proj");
    case kExpertUp:
      return of_expert("up_proj");
    case kExpertDown:
      return of_expert("down_proj");
    default:
      return fmt::format("model.layers.{}.{}", id.layer, layer_suffix(id.role));
  }
}

}  // namespace pregate::model
