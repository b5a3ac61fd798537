#include "model/families/mixtral/mixtral.h"

#include "model/families/common_config.h"

namespace pregate::model {
namespace {

// Every layer is MoE; the gate weights of the chosen experts always sum to one.
class MixtralFamily final : public Family {
 public:
  std::string_view architecture() const override { return "MixtralForCausalLM"; }
  std::string_view model_type() const override { return "mixtral"; }

  Result<ModelConfig> parse_config(FieldReader fields) const override {
    ModelConfig config = read_common_config(fields, {.vocab_size = 32000,
                                                     .hidden_size = 4096,
                                                     .num_layers = 32,
                                                     .num_heads = 32,
                                                     .num_kv_heads = 8,
                                                     .max_position = 131072,
                                                     .num_experts = 8,
                                                     .top_k = 2,
                                                     .rope_theta = 1e6,
                                                     .bos_token = 1,
                                                     .eos_tokens = {2}});
    config.architecture = architecture();
    config.expert_intermediate_size = fields.size("intermediate_size", 14336);
    config.norm_topk_prob = true;
    const size_t window = fields.size("sliding_window", 0);
    for (LayerConfig& layer : config.layers) layer.window = window;
    PREGATE_TRY(fields.status());
    return config;
  }

  boost::json::object write_config(const ModelConfig& config) const override {
    boost::json::object json = write_common_config(config);
    json["model_type"] = "mixtral";
    json["head_dim"] = config.head_dim;
    json["intermediate_size"] = config.expert_intermediate_size;
    json["num_local_experts"] = config.num_experts;
    json["sliding_window"] = nullptr;
    if (config.layers.front().window > 0) json["sliding_window"] = config.layers.front().window;
    return json;
  }

  std::string tensor_name(const TensorId& id) const override {
    const std::string moe = fmt::format("model.layers.{}.block_sparse_moe", id.layer);
    switch (id.role) {
      case TensorRole::kRouter:
        return moe + ".gate.weight";
      case TensorRole::kExpertGate:
        return fmt::format("{}.experts.{}.w1.weight", moe, id.expert);
      case TensorRole::kExpertUp:
        return fmt::format("{}.experts.{}.w3.weight", moe, id.expert);
      case TensorRole::kExpertDown:
        return fmt::format("{}.experts.{}.w2.weight", moe, id.expert);
      default:
        return Family::tensor_name(id);
    }
  }
};

}  // namespace

const Family& mixtral_family() {
  static const MixtralFamily family;
  return family;
}

}  // namespace pregate::model
