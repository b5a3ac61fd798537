#include "model/families/common_config.h"

#include <algorithm>

#include "compute/draw.h"

namespace pregate::model {
namespace {

constexpr size_t kMaxLayers = 4096;

/// Both names occur for every family: transformers 5 writes num_local_experts for some whose own
/// name is num_experts.
size_t read_num_experts(FieldReader& fields, size_t fallback) {
  const size_t experts = fields.size("num_experts", fallback, {.max = kMaxExperts});
  if (!fields.has("num_local_experts")) return experts;
  const size_t local = fields.size("num_local_experts", fallback, {.max = kMaxExperts});
  if (fields.has("num_experts") && local != experts) {
    fields.reject("num_local_experts", "the same as num_experts");
  }
  return local;
}

void read_heads(FieldReader& fields, const ConfigDefaults& defaults, ModelConfig& config) {
  config.num_heads = fields.size("num_attention_heads", defaults.num_heads);
  const bool same = defaults.num_kv_heads == 0 || fields.is_null("num_key_value_heads");
  config.num_kv_heads =
      fields.size("num_key_value_heads", same ? config.num_heads : defaults.num_kv_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.reject("num_key_value_heads", fmt::format("a divisor of {} heads", config.num_heads));
  }
  if (!fields.has("head_dim") && config.hidden_size % config.num_heads != 0) {
    fields.reject("num_attention_heads",
                  fmt::format("a divisor of hidden_size {}", config.hidden_size));
  }
  config.head_dim =
      fields.size("head_dim", std::max<size_t>(config.hidden_size / config.num_heads, 1));
  if (config.head_dim % 2 != 0) {
    fields.reject("head_dim", fmt::format("an even number (it is {})", config.head_dim));
  }
}

void read_special_tokens(FieldReader& fields, const ConfigDefaults& defaults, ModelConfig& config) {
  const std::vector<TokenId> eos = fields.token_ids("eos_token_id");
  const std::vector<TokenId> bos = fields.token_ids("bos_token_id");
  // null says "none", absent says "the default".
  config.eos_tokens = fields.present("eos_token_id") ? eos : defaults.eos_tokens;
  config.bos_token = defaults.bos_token;
  if (fields.present("bos_token_id")) config.bos_token = bos.empty() ? -1 : bos.front();
}

/// Which matrices are quantised their dtypes say. Rows are not: what activation_scheme asks of
/// other programs makes theirs less exact.
std::optional<QuantizationConfig> read_quantization(FieldReader& fields) {
  if (!fields.has("quantization_config")) return std::nullopt;
  FieldReader quantization = fields.object("quantization_config");
  if (quantization.text("quant_method", std::nullopt) != "fp8") {
    quantization.reject("quant_method", "\"fp8\" (or weights in F32, BF16 or F16)");
  }
  if (quantization.text("fmt", "e4m3") != "e4m3") quantization.reject("fmt", "\"e4m3\"");
  const std::vector<size_t> block = quantization.sizes("weight_block_size");
  const auto fits = [](size_t size) { return size > 0 && size <= SizeRange{}.max; };
  if (block.size() != 2 || !std::ranges::all_of(block, fits)) {
    quantization.reject("weight_block_size", "rows and columns of a block, as in [128, 128]");
  }
  fields.keep_first_error(quantization.status());
  if (!quantization.status()) return std::nullopt;
  return QuantizationConfig{block[0], block[1]};
}

}  // namespace

ModelConfig read_common_config(FieldReader& fields, const ConfigDefaults& defaults) {
  ModelConfig config;
  // Would change the result, and is not implemented.
  if (fields.text("hidden_act", "silu") != "silu") fields.reject("hidden_act", "\"silu\"");
  config.quantization = read_quantization(fields);
  config.vocab_size =
      fields.size("vocab_size", defaults.vocab_size, {.max = compute::kMaxDrawable});
  config.hidden_size = fields.size("hidden_size", defaults.hidden_size);
  read_heads(fields, defaults, config);
  const size_t max_position_embeddings =
      fields.size("max_position_embeddings", defaults.max_position);
  config.rms_norm_eps = fields.number("rms_norm_eps", defaults.rms_norm_eps, 0.0);
  config.rope = read_rope(fields, defaults.rope_theta, max_position_embeddings);
  config.max_position = longest_sequence(config.rope, max_position_embeddings);
  config.tie_embeddings = fields.flag("tie_word_embeddings", false);
  config.num_experts = read_num_experts(fields, defaults.num_experts);
  config.top_k = fields.size("num_experts_per_tok", defaults.top_k);
  if (config.top_k > config.num_experts) {
    fields.reject("num_experts_per_tok", fmt::format("at most {} experts", config.num_experts));
  }
  read_special_tokens(fields, defaults, config);
  config.layers.resize(fields.size("num_hidden_layers", defaults.num_layers, {.max = kMaxLayers}));
  return config;
}

void read_sparse_layers(FieldReader& fields, size_t intermediate_size, ModelConfig& config) {
  const size_t step = fields.size("decoder_sparse_step", 1);
  for (size_t l = 0; l < config.num_layers(); ++l) config.layers[l].is_moe = (l + 1) % step == 0;
  for (const size_t l : fields.sizes("mlp_only_layers")) {
    if (l < config.num_layers()) config.layers[l].is_moe = false;
  }
  for (LayerConfig& layer : config.layers) {
    layer.intermediate_size = layer.is_moe ? 0 : intermediate_size;
  }
}

boost::json::object write_common_config(const ModelConfig& config) {
  boost::json::object json{
      {"architectures", boost::json::array{config.architecture}},
      {"hidden_act", "silu"},
      {"hidden_size", config.hidden_size},
      {"max_position_embeddings", config.max_position},
      {"num_attention_heads", config.num_heads},
      {"num_experts_per_tok", config.top_k},
      {"num_hidden_layers", config.num_layers()},
      {"num_key_value_heads", config.num_kv_heads},
      {"rms_norm_eps", config.rms_norm_eps},
      {"rope_theta", config.rope.theta},
      {"rope_scaling", nullptr},
      {"tie_word_embeddings", config.tie_embeddings},
      {"vocab_size", config.vocab_size},
      {"bos_token_id", nullptr},
  };
  if (config.rope.type != RopeType::kDefault) {
    json["rope_scaling"] = write_rope(config.rope);
  }
  if (longest_sequence(config.rope, config.rope.original_max_position) == config.max_position) {
    json["max_position_embeddings"] = config.rope.original_max_position;
  }
  if (config.bos_token >= 0) json["bos_token_id"] = config.bos_token;
  json["eos_token_id"] = boost::json::value_from(config.eos_tokens);
  return json;
}

void write_sparse_layers(const ModelConfig& config, size_t default_intermediate_size,
                         boost::json::object& json) {
  boost::json::array dense;
  json["intermediate_size"] = default_intermediate_size;
  for (size_t l = 0; l < config.num_layers(); ++l) {
    if (config.layers[l].is_moe) continue;
    dense.emplace_back(l);
    json["intermediate_size"] = config.layers[l].intermediate_size;
  }
  json["mlp_only_layers"] = std::move(dense);
  json["decoder_sparse_step"] = 1;
}

}  // namespace pregate::model
