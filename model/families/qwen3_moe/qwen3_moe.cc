#include "model/families/qwen3_moe/qwen3_moe.h"

#include "model/families/common_config.h"

namespace pregate::model {
namespace {

constexpr size_t kQwen3IntermediateSize = 6144;

// Queries and keys are normalised per head; no shared expert.
class Qwen3MoeFamily final : public Family {
 public:
  std::string_view architecture() const override { return "Qwen3MoeForCausalLM"; }
  std::string_view model_type() const override { return "qwen3_moe"; }

  Result<ModelConfig> parse_config(FieldReader fields) const override {
    ModelConfig config = read_common_config(fields, {.vocab_size = 151936,
                                                     .hidden_size = 2048,
                                                     .num_layers = 24,
                                                     .num_heads = 32,
                                                     .num_kv_heads = 4,
                                                     .max_position = 32768,
                                                     .num_experts = 128,
                                                     .top_k = 8,
                                                     .rms_norm_eps = 1e-6});
    config.architecture = architecture();
    config.qk_norm = QkNorm::kPerHead;
    config.qkv_bias = config.attention_out_bias = fields.flag("attention_bias", false);
    config.expert_intermediate_size = fields.size("moe_intermediate_size", 768);
    config.norm_topk_prob = fields.flag("norm_topk_prob", false);
    read_sparse_layers(fields, fields.size("intermediate_size", kQwen3IntermediateSize), config);
    const size_t window = fields.size("sliding_window", 4096, {.min = 0});
    if (fields.flag("use_sliding_window", false) && !fields.is_null("sliding_window")) {
      for (LayerConfig& layer : config.layers) layer.window = window;
    }
    PREGATE_TRY(fields.status());
    return config;
  }

  boost::json::object write_config(const ModelConfig& config) const override {
    boost::json::object json = write_common_config(config);
    json["model_type"] = "qwen3_moe";
    json["attention_bias"] = config.qkv_bias;
    json["head_dim"] = config.head_dim;
    json["moe_intermediate_size"] = config.expert_intermediate_size;
    json["norm_topk_prob"] = config.norm_topk_prob;
    json["num_experts"] = config.num_experts;
    json["use_sliding_window"] = config.layers.front().window > 0;
    json["sliding_window"] = nullptr;
    if (config.layers.front().window > 0) json["sliding_window"] = config.layers.front().window;
    write_sparse_layers(config, kQwen3IntermediateSize, json);
    return json;
  }
};

}  // namespace

const Family& qwen3_moe_family() {
  static const Qwen3MoeFamily family;
  return family;
}

}  // namespace pregate::model
