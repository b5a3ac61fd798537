#include "model/families/qwen2_moe/qwen2_moe.h"

#include "model/families/common_config.h"

namespace pregate::model {
namespace {

constexpr size_t kQwen2IntermediateSize = 5632;

/// layer_types, where given, decides; else every other layer below max_window_layers slides.
void read_windows(FieldReader& fields, ModelConfig& config) {
  const bool use_window = fields.flag("use_sliding_window", false);
  const size_t window = fields.size("sliding_window", 4096, {.min = 0});
  const size_t max_window_layers = fields.size("max_window_layers", 28, {.min = 0});
  const std::vector<std::string> types = fields.texts("layer_types");
  if (!types.empty() && types.size() != config.num_layers()) {
    fields.reject("layer_types", fmt::format("{} layers", config.num_layers()));
  }
  if (!use_window || fields.is_null("sliding_window") || !fields.status()) return;
  for (size_t l = 0; l < config.num_layers(); ++l) {
    const bool slides =
        types.empty() ? l % 2 == 0 && l < max_window_layers : types[l] == "sliding_attention";
    if (slides) config.layers[l].window = window;
  }
}

// A shared expert with a sigmoid gate beside the routed ones; biases on q, k and v.
class Qwen2MoeFamily final : public Family {
 public:
  std::string_view architecture() const override { return "Qwen2MoeForCausalLM"; }
  std::string_view model_type() const override { return "qwen2_moe"; }

  Result<ModelConfig> parse_config(FieldReader fields) const override {
    ModelConfig config = read_common_config(fields, {.vocab_size = 151936,
                                                     .hidden_size = 2048,
                                                     .num_layers = 24,
                                                     .num_heads = 16,
                                                     .num_kv_heads = 16,
                                                     .max_position = 32768,
                                                     .num_experts = 60,
                                                     .top_k = 4,
                                                     .rms_norm_eps = 1e-6});
    config.architecture = architecture();
    config.qkv_bias = fields.flag("qkv_bias", true);
    config.expert_intermediate_size = fields.size("moe_intermediate_size", 1408);
    config.shared_intermediate_size =
        fields.size("shared_expert_intermediate_size", 5632, {.min = 0});
    config.norm_topk_prob = fields.flag("norm_topk_prob", false);
    read_sparse_layers(fields, fields.size("intermediate_size", kQwen2IntermediateSize), config);
    read_windows(fields, config);
    PREGATE_TRY(fields.status());
    return config;
  }

  boost::json::object write_config(const ModelConfig& config) const override {
    boost::json::object json = write_common_config(config);
    json["model_type"] = "qwen2_moe";
    json["moe_intermediate_size"] = config.expert_intermediate_size;
    json["norm_topk_prob"] = config.norm_topk_prob;
    json["num_experts"] = config.num_experts;
    json["qkv_bias"] = config.qkv_bias;
    json["shared_expert_intermediate_size"] = config.shared_intermediate_size;
    write_sparse_layers(config, kQwen2IntermediateSize, json);
    write_windows(config, json);
    return json;
  }

 private:
  static void write_windows(const ModelConfig& config, boost::json::object& json) {
    size_t window = 0;
    boost::json::array types;
    for (const LayerConfig& layer : config.layers) {
      window = std::max(window, layer.window);
      types.emplace_back(layer.window > 0 ? "sliding_attention" : "full_attention");
    }
    json["use_sliding_window"] = window > 0;
    json["sliding_window"] = window;
    json["layer_types"] = std::move(types);
  }
};

}  // namespace

const Family& qwen2_moe_family() {
  static const Qwen2MoeFamily family;
  return family;
}

}  // namespace pregate::model
