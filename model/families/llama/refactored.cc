#include "model/families/llama/refactored.h"

#include "model/checkpoint/tensor_files.h"
#include "model/families/common_config.h"
#include "model/refactored/channel_masks.h"

namespace pregate::model {
namespace {

using enum TensorRole;

/// Rows of a matrix, and that it is one.
Result<size_t> rows_of(const TensorFiles& files, const std::string& name,
                       const std::filesystem::path& directory) {
  const auto found = files.tensors().find(name);
  if (found == files.tensors().end()) {
    return fail(ErrorCode::kNotFound, "{}: no tensor {}", directory.string(), name);
  }
  const auto& [file, entry] = found->second;
  if (entry->shape.size() == 2 && entry->shape[0] > 0) return entry->shape[0];
  return fail(ErrorCode::kDataLoss, "{}: {}: shape [{}], expected a matrix", file->path().string(),
              name, fmt::join(entry->shape, ", "));
}

Status read_converted_widths(const std::filesystem::path& directory, const TensorFiles& files,
                             const Family& family, bool has_shared, ModelConfig& config) {
  for (uint32_t l = 0; l < config.num_layers(); ++l) {
    LayerConfig& layer = config.layers[l];
    layer.shared_size = 0;
    const auto width = [&](TensorRole role, uint32_t expert) {
      return rows_of(files, family.tensor_name({role, LayerIdx(l), ExpertId(expert)}), directory);
    };
    if (has_shared) {
      PREGATE_ASSIGN(layer.shared_size, width(kSharedGateProjection, 0));
    }
    for (uint32_t e = 0; e < config.num_experts; ++e) {
      PREGATE_ASSIGN(layer.expert_sizes.emplace_back(), width(kExpertGate, e));
    }
  }
  return {};
}

Status read_masked_widths(const std::filesystem::path& path, ModelConfig& config) {
  PREGATE_ASSIGN(config.masks, ChannelMasks::read(path, config));
  for (uint32_t l = 0; l < config.num_layers(); ++l) {
    const LayerChannels& channels = config.masks->layer(LayerIdx(l));
    config.layers[l].shared_size = channels.shared.size();
    for (const auto& own : channels.own) config.layers[l].expert_sizes.push_back(own.size());
  }
  return {};
}

}  // namespace

void read_predictor(FieldReader& fields, ModelConfig& config) {
  PregateConfig pregate;
  config.num_experts = fields.size("N_cluster", 7, {.max = kMaxExperts});
  config.top_k = 1;
  config.shared_is_gated = false;
  pregate.embedding_size = fields.size("embedding_dim", 512);
  pregate.num_heads = fields.size("n_head", 4);
  pregate.normalizer = fields.number("normalizer", 1.0);
  if (pregate.normalizer <= 0.0) fields.reject("normalizer", "more than 0");
  if (fields.size("n_layer", 1) != 1) fields.reject("n_layer", "1");
  if (fields.text("hidden_act_predictor", "silu") != "silu") {
    fields.reject("hidden_act_predictor", "\"silu\"");
  }
  if (fields.flag("nonautoregressive", false)) fields.reject("nonautoregressive", "false");
  config.pregate = pregate;
}

void write_predictor(const ModelConfig& config, boost::json::object& json) {
  const PregateConfig& pregate = *config.pregate;
  json["add_cluster_predictor"] = true;
  json["N_cluster"] = config.num_experts;
  json["embedding_dim"] = pregate.embedding_size;
  json["inter_dim"] = pregate.mlp_size;
  json["n_head"] = pregate.num_heads;
  json["n_layer"] = 1;
  json["normalizer"] = pregate.normalizer;
  json["hidden_act_predictor"] = "silu";
}

Status read_widths(const std::filesystem::path& directory, const TensorFiles& files,
                   const Family& family, ModelConfig& config) {
  const auto rows = [&](TensorRole role) {
    return rows_of(files, family.tensor_name({.role = role}), directory);
  };
  PregateConfig& pregate = *config.pregate;
  PREGATE_ASSIGN(pregate.attention_size, rows(kPregateQuery));
  PREGATE_ASSIGN(pregate.mlp_size, rows(kPregateMlpIn));
  if (pregate.attention_size % (2 * pregate.num_heads) != 0) {
    return fail(ErrorCode::kDataLoss,
                "{}: n_head: {} heads, but the router's attention is {} wide, expected an even "
                "number of columns for each",
                directory.string(), pregate.num_heads, pregate.attention_size);
  }
  const auto has = [&](TensorRole role) {
    return files.tensors().contains(family.tensor_name({.role = role}));
  };
  if (has(kExpertGate)) {
    return read_converted_widths(directory, files, family, has(kSharedGateProjection), config);
  }
  return read_masked_widths(directory / "mask.pt", config);
}

}  // namespace pregate::model
