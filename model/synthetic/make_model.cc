#include "model/synthetic/make_model.h"

#include <algorithm>
#include <cmath>

#include <boost/json.hpp>

#include "model/families/family.h"
#include "model/synthetic/presets.h"
#include "model/synthetic/shard_writer.h"
#include "model/synthetic/tokenizer_files.h"

namespace pregate::model {
namespace {

namespace fs = std::filesystem;

Result<const Preset*> find_preset(const std::string& name) {
  for (const Preset& preset : presets()) {
    if (preset.name == name) return &preset;
  }
  return fail(ErrorCode::kInvalidArgument, "like: unknown model {}; known: {}", name,
              fmt::join(synthetic_presets(), ", "));
}

Result<const Family*> find_family(std::string_view model_type) {
  std::vector<std::string_view> known;
  for (const Family* family : families()) {
    known.push_back(family->model_type());
    if (family->model_type() == model_type) return family;
  }
  return fail(ErrorCode::kInvalidArgument, "family: unknown family {}; known: {}", model_type,
              fmt::join(known, ", "));
}

Result<const Family*> chosen_family(const SyntheticOptions& options) {
  PREGATE_ASSIGN(const Preset* preset, find_preset(options.like));
  return find_family(options.family.empty() ? preset->family : options.family);
}

/// The head size follows from hidden size and heads where one of these was changed.
size_t head_dim(const Preset& preset, const SyntheticOptions& options, const ModelConfig& config) {
  const bool changed = options.hidden_size || options.num_heads;
  const size_t derived =
      changed ? config.hidden_size / std::max<size_t>(config.num_heads, 1) : preset.head_dim;
  return options.head_dim.value_or(derived);
}

void apply_shape(const Preset& preset, const SyntheticOptions& options, ModelConfig& config) {
  const bool has_shared = config.shared_intermediate_size > 0;
  config.vocab_size = options.vocab_size.value_or(preset.vocab_size);
  config.hidden_size = options.hidden_size.value_or(preset.hidden_size);
  config.num_heads = options.num_heads.value_or(preset.num_heads);
  config.num_kv_heads = options.num_kv_heads.value_or(preset.num_kv_heads);
  config.head_dim = head_dim(preset, options, config);
  config.max_position = options.max_position.value_or(preset.max_position);
  config.rope.theta = preset.rope_theta;
  config.rope.original_max_position = config.max_position;
  config.tie_embeddings = options.tie_embeddings.value_or(false);
  const bool is_dense = config.num_experts == 0;
  config.num_experts = options.num_experts.value_or(is_dense ? 0 : preset.num_experts);
  config.top_k = options.top_k.value_or(is_dense ? 0 : preset.top_k);
  config.expert_intermediate_size =
      options.expert_intermediate_size.value_or(preset.expert_intermediate_size);
  config.shared_intermediate_size =
      options.shared_intermediate_size.value_or(has_shared ? preset.shared_intermediate_size : 0);
  config.norm_topk_prob = preset.norm_topk_prob;
  LayerConfig layer;
  if (is_dense) layer = {.is_moe = false, .intermediate_size = config.expert_intermediate_size};
  config.layers.assign(options.num_layers.value_or(preset.num_layers), layer);
  config.bos_token = -1;
  config.eos_tokens = {kTurnEnd, kEndOfText};
}

/// What a family's config.json cannot say comes back changed.
Status check_round_trip(const ModelConfig& asked, const ModelConfig& got) {
  if (asked.head_dim != got.head_dim) {
    return fail(ErrorCode::kInvalidArgument, "head-dim: {} always has hidden / heads = {}",
                asked.architecture, got.head_dim);
  }
  if (asked.num_experts != got.num_experts) {
    return fail(ErrorCode::kInvalidArgument, "experts: {} has none", asked.architecture);
  }
  if (asked.shared_intermediate_size != got.shared_intermediate_size) {
    return fail(ErrorCode::kInvalidArgument, "shared-intermediate: {} has no shared expert",
                asked.architecture);
  }
  if (got.vocab_size < kSmallestVocab) {
    return fail(ErrorCode::kInvalidArgument, "vocab: {} is too small, expected at least {}",
                got.vocab_size, kSmallestVocab);
  }
  return {};
}

/// Scales that keep activations near one: rows of a product are sums over the inputs, and a norm
/// precedes each. Norm weights lie around one.
RandomValues::Distribution distribution_of(TensorRole role, const std::vector<size_t>& shape) {
  constexpr float kSmall = 0.05f;
  if (role == TensorRole::kEmbedding) return {.mean = 0.0f, .deviation = 1.0f};
  if (shape.size() == 2) return {.mean = 0.0f, .deviation = 1.0f / std::sqrt(float(shape[1]))};
  const bool is_bias = role == TensorRole::kQueryBias || role == TensorRole::kKeyBias ||
                       role == TensorRole::kValueBias || role == TensorRole::kAttentionOutBias;
  return {.mean = is_bias ? 0.0f : 1.0f, .deviation = kSmall};
}

/// Rows and columns that share a scale in a checkpoint in f8.
constexpr size_t kF8Block = 128;

/// Whether it is in 8 bits in a checkpoint in f8.
bool is_in_f8(const TensorId& id, const std::vector<size_t>& shape) {
  if (shape.size() != 2 || id.role == TensorRole::kSharedGate) return false;
  const Part part = part_of(id.role);
  return part == Part::kAttention || part == Part::kExperts || part == Part::kShared ||
         part == Part::kDense;
}

/// Codes that use all of E4M3, and scales that make them what the tensor asks for.
void add_in_f8(RandomTensor codes, std::vector<RandomTensor>& tensors) {
  constexpr float kCodes = 256.0f;
  RandomTensor scales = codes;
  scales.name += "_scale_inv";
  for (size_t& extent : scales.shape) extent = (extent + kF8Block - 1) / kF8Block;
  scales.dtype = compute::DType::kF32;
  scales.seed = ~codes.seed;
  scales.distribution.mean = codes.distribution.deviation / kCodes;
  scales.distribution.deviation = scales.distribution.mean / 4;
  codes.dtype = compute::DType::kF8;
  codes.distribution.deviation = kCodes;
  tensors.push_back(std::move(codes));
  tensors.push_back(std::move(scales));
}

std::vector<RandomTensor> random_tensors(const Family& family, const ModelConfig& config,
                                         const SyntheticOptions& options) {
  const bool is_f8 = options.dtype == compute::DType::kF8;
  std::vector<RandomTensor> tensors;
  for (const TensorId& id : all_tensors(config)) {
    RandomTensor tensor{.name = family.tensor_name(id),
                        .shape = tensor_shape(config, id),
                        .dtype = is_f8 ? compute::DType::kBf16 : options.dtype,
                        .seed = options.seed << 32 ^ tensors.size(),
                        .distribution = {}};
    tensor.distribution = distribution_of(id.role, tensor.shape);
    if (is_f8 && is_in_f8(id, tensor.shape)) {
      add_in_f8(std::move(tensor), tensors);
    } else {
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

/// Cuts the tensors, in order, into files of at most `shard_bytes` (or one tensor).
std::vector<std::span<const RandomTensor>> cut(std::span<const RandomTensor> tensors,
                                               size_t shard_bytes) {
  std::vector<std::span<const RandomTensor>> shards;
  size_t begin = 0, bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i > begin && bytes + tensors[i].bytes() > shard_bytes) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += tensors[i].bytes();
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

Status write_weights(const fs::path& directory, std::span<const RandomTensor> tensors,
                     size_t shard_bytes, const WriteProgress& progress) {
  size_t done_bytes = 0, total_bytes = 0;
  for (const RandomTensor& tensor : tensors) total_bytes += tensor.bytes();
  const auto written = [&](size_t bytes) {
    done_bytes += bytes;
    if (progress) progress(done_bytes, total_bytes);
  };
  const auto shards = cut(tensors, shard_bytes);
  if (shards.size() == 1) return write_shard(directory / "model.safetensors", tensors, written);

  boost::json::object weight_map;
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    PREGATE_TRY(write_shard(directory / name, shards[s], written));
    for (const RandomTensor& tensor : shards[s]) weight_map[tensor.name] = name;
  }
  const boost::json::object index{{"metadata", {{"total_size", total_bytes}}},
                                  {"weight_map", std::move(weight_map)}};
  return write_text(directory / "model.safetensors.index.json", boost::json::serialize(index));
}

boost::json::object generation_config(const ModelConfig& config) {
  return {{"eos_token_id", boost::json::value_from(config.eos_tokens)},
          {"pad_token_id", kEndOfText}};
}

Status prepare_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    return fail(ErrorCode::kUnavailable, "{}: cannot create: {}", directory.string(),
                error.message());
  }
  if (fs::exists(directory / "config.json", error)) {
    return fail(ErrorCode::kInvalidArgument, "{}: holds a model already", directory.string());
  }
  return {};
}

/// Of what has no scales.
const char* torch_dtype(compute::DType dtype) {
  if (dtype == compute::DType::kF32) return "float32";
  return dtype == compute::DType::kF16 ? "float16" : "bfloat16";
}

}  // namespace

std::vector<std::string> synthetic_presets() {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.emplace_back(preset.name);
  return names;
}

Result<ModelConfig> synthetic_config(const SyntheticOptions& options) {
  PREGATE_ASSIGN(const Preset* preset, find_preset(options.like));
  PREGATE_ASSIGN(const Family* family, chosen_family(options));
  PREGATE_ASSIGN(ModelConfig asked, family->parse_config(FieldReader({}, "defaults")));
  apply_shape(*preset, options, asked);
  PREGATE_ASSIGN(ModelConfig config,
                 family->parse_config(FieldReader(family->write_config(asked), "shape")));
  PREGATE_TRY(check_round_trip(asked, config));
  return config;
}

Status make_model(const fs::path& directory, const SyntheticOptions& options,
                  const WriteProgress& progress) {
  PREGATE_ASSIGN(const ModelConfig config, synthetic_config(options));
  PREGATE_ASSIGN(const Family* family, chosen_family(options));
  PREGATE_TRY(prepare_directory(directory));
  PREGATE_TRY(write_weights(directory, random_tensors(*family, config, options),
                            options.shard_bytes, progress));
  PREGATE_TRY(write_tokenizer(directory, config.vocab_size));
  PREGATE_TRY(write_text(directory / "generation_config.json",
                         boost::json::serialize(generation_config(config))));
  boost::json::object json = family->write_config(config);
  json["torch_dtype"] = torch_dtype(options.dtype);
  if (options.dtype == compute::DType::kF8) {
    json["quantization_config"] = {
        {"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {kF8Block, kF8Block}}};
  }
  return write_text(directory / "config.json", boost::json::serialize(json) + "\n");
}

}  // namespace pregate::model
