// What a checkpoint's config.json says, in one form for all families.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"

namespace pregate::model {

class ChannelMasks;  // model/refactored/channel_masks.h

/// Longest context of any model: beyond it, f32 cannot tell two positions apart.
inline constexpr size_t kMaxContextTokens = size_t{1} << 24;

enum class RopeType { kDefault, kLinear, kDynamic, kYarn, kLlama3 };

/// Names as in transformers' rope_parameters / rope_scaling.
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double partial_rotary_factor = 1.0;
  double factor = 1.0;
  size_t original_max_position = 0;  ///< Tokens the model was trained for, before stretching.
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn
  std::optional<double> attention_factor;                // yarn
  std::optional<double> mscale, mscale_all_dim;          // yarn
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
};

/// Where RMS norms are applied to queries and keys before rotation.
enum class QkNorm { kNone, kPerHead, kFull };

struct LayerConfig {
  bool is_moe = true;
  size_t intermediate_size = 0;  ///< Of the dense MLP, where the layer is not MoE.
  size_t window = 0;             ///< Sliding attention window in tokens; 0: full attention.
  /// Widths of this layer's experts, one each, and of its shared part, in families that read them
  /// off their tensors because they differ.
  std::vector<size_t> expert_sizes;
  std::optional<size_t> shared_size;
};

/// Read-ME's pre-gating router: a small transformer layer of its own, from token ids to one expert
/// per token for all layers. Widths are those of its tensors.
struct PregateConfig {
  size_t embedding_size = 0;
  size_t attention_size = 0;  ///< Of queries, keys and values together.
  size_t mlp_size = 0;
  size_t num_heads = 0;
  double normalizer = 1.0;  ///< Scores are divided by it, and by nothing else.
};

/// What generation_config.json asks of requests that do not say; names as there.
struct SamplingDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<size_t> top_k;  ///< 0: all.
};

/// Matrices of 8-bit numbers, with a scale for each block of so many rows and columns.
struct QuantizationConfig {
  size_t block_rows = 0, block_cols = 0;
};

struct ModelConfig {
  std::string architecture;  ///< For example "OlmoeForCausalLM".
  size_t vocab_size = 0;     ///< Rows of the embedding; may exceed the tokenizer's.
  size_t hidden_size = 0;
  size_t num_heads = 0;
  size_t num_kv_heads = 0;
  size_t head_dim = 0;
  size_t max_position = 0;  ///< Longest sequence the model was configured for, in tokens.
  double rms_norm_eps = 1e-5;
  RopeConfig rope;
  QkNorm qk_norm = QkNorm::kNone;
  bool qkv_bias = false;
  bool attention_out_bias = false;
  std::optional<double> clip_qkv;
  bool tie_embeddings = false;

  size_t num_experts = 0;  ///< Per MoE layer.
  size_t top_k = 0;
  size_t expert_intermediate_size = 0;
  size_t shared_intermediate_size = 0;  ///< 0: no shared expert.
  bool shared_is_gated = true;          ///< The shared expert has a sigmoid gate.
  bool norm_topk_prob = false;
  std::optional<QuantizationConfig> quantization;
  std::optional<PregateConfig> pregate;       ///< Then there are no gates in the layers.
  std::shared_ptr<const ChannelMasks> masks;  ///< Then experts are channels of a dense MLP.

  std::vector<LayerConfig> layers;

  TokenId bos_token = -1;           ///< -1: none.
  std::vector<TokenId> eos_tokens;  ///< From generation_config.json, else config.json.
  SamplingDefaults sampling;

  size_t num_layers() const { return layers.size(); }
  size_t expert_size(LayerIdx layer, ExpertId expert) const {
    const std::vector<size_t>& sizes = layers[layer.value].expert_sizes;
    return sizes.empty() ? expert_intermediate_size : sizes[expert.value];
  }
  size_t shared_size(LayerIdx layer) const {
    return layers[layer.value].shared_size.value_or(shared_intermediate_size);
  }
};

}  // namespace pregate::model
