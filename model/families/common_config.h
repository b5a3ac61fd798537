// The fields of config.json that all families spell alike.
#pragma once

#include "model/checkpoint/field_reader.h"
#include "model/config.h"

namespace pregate::model {

/// Of a layer: more is taken for a mistake.
inline constexpr size_t kMaxExperts = 65536;

/// What transformers documents for attributes that are absent.
struct ConfigDefaults {
  size_t vocab_size = 0;
  size_t hidden_size = 0;
  size_t num_layers = 0;
  size_t num_heads = 0;
  size_t num_kv_heads = 0;  ///< 0: as many as heads.
  size_t max_position = 0;
  size_t num_experts = 0;
  size_t top_k = 0;
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  TokenId bos_token = -1;
  std::vector<TokenId> eos_tokens;
};

/// Sizes, rotary embedding, expert counts and special tokens. The layers are all MoE layers with
/// full attention; the family fills in the rest.
ModelConfig read_common_config(FieldReader& fields, const ConfigDefaults& defaults);

/// Which layers are MoE, from mlp_only_layers and decoder_sparse_step (the Qwen families); the
/// others get a dense MLP of `intermediate_size`.
void read_sparse_layers(FieldReader& fields, size_t intermediate_size, ModelConfig& config);

/// The inverse of read_common_config().
boost::json::object write_common_config(const ModelConfig& config);
/// mlp_only_layers and intermediate_size for what read_sparse_layers() read.
void write_sparse_layers(const ModelConfig& config, size_t default_intermediate_size,
                         boost::json::object& json);

/// Rotary fields in both spellings: rope_parameters, or rope_theta and rope_scaling.
RopeConfig read_rope(FieldReader& fields, double default_theta, size_t max_position_embeddings);
boost::json::object write_rope(const RopeConfig& rope);
/// The longest sequence the rotary variant was made for.
size_t longest_sequence(const RopeConfig& rope, size_t max_position_embeddings);

}  // namespace pregate::model
