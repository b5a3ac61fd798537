#include "model/families/llama/llama.h"

#include "model/families/common_config.h"
#include "model/families/llama/refactored.h"

namespace pregate::model {
namespace {

using enum TensorRole;

std::string predictor_name(std::string_view rest) {
  return fmt::format("cluster_predictor.{}", rest);
}

/// Names of the published code, which numbers the router's one layer.
std::string pregate_tensor_name(TensorRole role) {
  switch (role) {
    case kPregateEmbedding:
      return predictor_name("embed.weight");
    case kPregateInputNorm:
      return predictor_name("input_layernorm_0.weight");
    case kPregatePostAttentionNorm:
      return predictor_name("post_attention_layernorm_0.weight");
    case kPregateOutNorm:
      return predictor_name("out_layernorm.weight");
    case kPregateQuery:
      return predictor_name("q_proj_0.weight");
    case kPregateQueryBias:
      return predictor_name("q_proj_0.bias");
    case kPregateKey:
      return predictor_name("k_proj_0.weight");
    case kPregateKeyBias:
      return predictor_name("k_proj_0.bias");
    case kPregateValue:
      return predictor_name("v_proj_0.weight");
    case kPregateValueBias:
      return predictor_name("v_proj_0.bias");
    case kPregateAttentionOut:
      return predictor_name("o_proj_0.weight");
    case kPregateAttentionOutBias:
      return predictor_name("o_proj_0.bias");
    case kPregateMlpIn:
      return predictor_name("proj_1_0.weight");
    case kPregateMlpInBias:
      return predictor_name("proj_1_0.bias");
    case kPregateMlpOut:
      return predictor_name("proj_2_0.weight");
    case kPregateMlpOutBias:
      return predictor_name("proj_2_0.bias");
    case kPregateOut:
      return predictor_name("proj_out.weight");
    default:
      return predictor_name("proj_out.bias");
  }
}

class LlamaFamily final : public Family {
 public:
  std::string_view architecture() const override { return "LlamaForCausalLM"; }
  std::string_view model_type() const override { return "llama"; }

  Result<ModelConfig> parse_config(FieldReader fields) const override {
    ModelConfig config = read_common_config(fields, {.vocab_size = 32000,
                                                     .hidden_size = 4096,
                                                     .num_layers = 32,
                                                     .num_heads = 32,
                                                     .max_position = 2048,
                                                     .rms_norm_eps = 1e-6,
                                                     .bos_token = 1,
                                                     .eos_tokens = {2}});
    config.architecture = architecture();
    config.qkv_bias = config.attention_out_bias = fields.flag("attention_bias", false);
    if (fields.flag("mlp_bias", false)) fields.reject("mlp_bias", "false");
    config.num_experts = config.top_k = 0;
    const bool is_refactored = fields.flag("add_cluster_predictor", false);
    const size_t intermediate_size = fields.size("intermediate_size", 11008);
    for (LayerConfig& layer : config.layers) {
      layer.is_moe = is_refactored;
      layer.intermediate_size = intermediate_size;
    }
    if (is_refactored) read_predictor(fields, config);
    PREGATE_TRY(fields.status());
    return config;
  }

  boost::json::object write_config(const ModelConfig& config) const override {
    boost::json::object json = write_common_config(config);
    json.erase("num_experts_per_tok");
    json["model_type"] = "llama";
    json["attention_bias"] = config.qkv_bias;
    json["mlp_bias"] = false;
    json["head_dim"] = config.head_dim;
    json["intermediate_size"] = config.layers.front().intermediate_size;
    if (config.pregate) write_predictor(config, json);
    return json;
  }

  Status complete_config(const std::filesystem::path& directory, const TensorFiles& files,
                         ModelConfig& config) const override {
    return config.pregate ? read_widths(directory, files, *this, config) : Status{};
  }

  std::string tensor_name(const TensorId& id) const override {
    const auto moe = [&](std::string_view projection, std::string_view owner) {
      return fmt::format("model.layers.{}.moe.{}_{}.weight", id.layer, projection, owner);
    };
    const std::string expert = fmt::to_string(id.expert);
    switch (id.role) {
      case kExpertGate:
        return moe("gate_proj", expert);
      case kExpertUp:
        return moe("up_proj", expert);
      case kExpertDown:
        return moe("down_proj", expert);
      case kSharedGateProjection:
        return moe("gate_proj", "residual");
      case kSharedUp:
        return moe("up_proj", "residual");
      case kSharedDown:
        return moe("down_proj", "residual");
      default:
        if (part_of(id.role) == Part::kRouter && id.role != kRouter) {
          return pregate_tensor_name(id.role);
        }
        return Family::tensor_name(id);
    }
  }
};

}  // namespace

const Family& llama_family() {
  static const LlamaFamily family;
  return family;
}

}  // namespace pregate::model
