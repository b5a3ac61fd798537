#include "model/families/olmoe/olmoe.h"

#include "model/families/common_config.h"

namespace pregate::model {
namespace {

// Every layer is MoE. Queries and keys are normalised over their full width, then all of q, k and v
// are clipped to [-clip_qkv, clip_qkv].
class OlmoeFamily final : public Family {
 public:
  std::string_view architecture() const override { return "OlmoeForCausalLM"; }
  std::string_view model_type() const override { return "olmoe"; }

  Result<ModelConfig> parse_config(FieldReader fields) const override {
    ModelConfig config = read_common_config(fields, {.vocab_size = 50304,
                                                     .hidden_size = 2048,
                                                     .num_layers = 16,
                                                     .num_heads = 16,
                                                     .max_position = 4096,
                                                     .num_experts = 64,
                                                     .top_k = 8,
                                                     .eos_tokens = {50279}});
    config.architecture = architecture();
    config.qk_norm = QkNorm::kFull;
    config.clip_qkv = fields.optional_number("clip_qkv");
    if (config.clip_qkv && *config.clip_qkv <= 0.0) fields.reject("clip_qkv", "more than 0");
    config.qkv_bias = config.attention_out_bias = fields.flag("attention_bias", false);
    config.expert_intermediate_size = fields.size("intermediate_size", 2048);
    config.norm_topk_prob = fields.flag("norm_topk_prob", false);
    PREGATE_TRY(fields.status());
    return config;
  }

  boost::json::object write_config(const ModelConfig& config) const override {
    boost::json::object json = write_common_config(config);
    json["model_type"] = "olmoe";
    json["attention_bias"] = config.qkv_bias;
    json["clip_qkv"] = nullptr;
    if (config.clip_qkv) json["clip_qkv"] = *config.clip_qkv;
    json["intermediate_size"] = config.expert_intermediate_size;
    json["norm_topk_prob"] = config.norm_topk_prob;
    json["num_experts"] = config.num_experts;
    return json;
  }
};

}  // namespace

const Family& olmoe_family() {
  static const OlmoeFamily family;
  return family;
}

}  // namespace pregate::model
