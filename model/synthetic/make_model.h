// Random checkpoints with real shapes and names, for tests, benchmarks and first steps.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/types.h"
#include "model/config.h"

namespace pregate::model {

/// A preset and what differs from it.
struct SyntheticOptions {
  std::string like = "tiny";  ///< One of synthetic_presets().
  std::string family;         ///< A model_type such as "mixtral"; empty: the preset's.
  std::optional<size_t> num_layers, hidden_size, num_heads, num_kv_heads, head_dim;
  std::optional<size_t> num_experts, top_k, expert_intermediate_size, shared_intermediate_size;
  std::optional<size_t> vocab_size, max_position;
  std::optional<bool> tie_embeddings;
  /// kF8: of matrices as DeepSeek publishes them, with scales; the rest is bf16.
  compute::DType dtype = compute::DType::kBf16;
  uint64_t seed = 1;
  size_t shard_bytes = size_t{4} << 30;  ///< A file is split where it would grow beyond this.
};

std::vector<std::string> synthetic_presets();

/// The shape the options ask for. kInvalidArgument for a shape the family cannot have.
Result<ModelConfig> synthetic_config(const SyntheticOptions& options);

using WriteProgress = std::function<void(size_t done_bytes, size_t total_bytes)>;

/// Writes config.json, generation_config.json, safetensors and a byte-level tokenizer with a chat
/// template. The same options give the same bytes. Creates the directory; refuses one that holds
/// a config.json, which is written last, so that an interrupted run leaves no half a model.
Status make_model(const std::filesystem::path& directory, const SyntheticOptions& options,
                  const WriteProgress& progress);

}  // namespace pregate::model
