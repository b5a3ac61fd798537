#include "model/summary.h"

#include <map>

#include "compute/weight_bytes.h"
#include "model/families/family.h"
#include "model/weights.h"

namespace pregate::model {
namespace {

using compute::WeightFormat;

size_t parameters_of(const std::vector<size_t>& shape) {
  size_t count = 1;
  for (const size_t extent : shape) count *= extent;
  return count;
}

/// Norms, biases and gates are kept in f32, the embedding as it lies in the file.
size_t loaded_bytes(const TensorId& id, const std::vector<size_t>& shape, WeightFormat format,
                    size_t checkpoint_bytes) {
  if (id.role == TensorRole::kEmbedding) return checkpoint_bytes;
  if (id.role == TensorRole::kPregateEmbedding) return checkpoint_bytes;
  const bool is_gate = part_of(id.role) == Part::kRouter || id.role == TensorRole::kSharedGate;
  if (shape.size() == 1 || is_gate) return parameters_of(shape) * sizeof(float);
  return shape[0] * compute::weight_row_bytes(format, shape[1]);
}

/// How a tensor is kept that is a matrix and no gate.
Result<WeightFormat> format_of(const Checkpoint& checkpoint, const TensorId& id,
                               WeightFormat format) {
  const Part part = part_of(id.role);
  const bool is_mlp = part == Part::kExperts || part == Part::kShared || part == Part::kDense;
  if (is_mlp) return format;
  PREGATE_ASSIGN(const TensorView tensor, checkpoint.tensor(checkpoint.family().tensor_name(id)));
  return matrix_format(format, tensor);
}

/// What the channels of an expert, or of the shared part, take of the dense MLP they lie in.
Result<size_t> masked_bytes(const Checkpoint& checkpoint, const TensorId& id) {
  const TensorId dense{.role = TensorRole::kDenseGate, .layer = id.layer};
  PREGATE_ASSIGN(const TensorView tensor,
                 checkpoint.tensor(checkpoint.family().tensor_name(dense)));
  return parameters_of(tensor_shape(checkpoint.config(), id)) * compute::dtype_bytes(tensor.dtype);
}

Result<size_t> checkpoint_bytes(const Checkpoint& checkpoint, const TensorId& id) {
  const Part part = part_of(id.role);
  if (checkpoint.config().masks && (part == Part::kExperts || part == Part::kShared)) {
    return masked_bytes(checkpoint, id);
  }
  const std::string name = checkpoint.family().tensor_name(id);
  PREGATE_ASSIGN(const TensorView tensor, checkpoint.tensor(name));
  const std::vector<size_t> expected = tensor_shape(checkpoint.config(), id);
  if (tensor.shape == expected) return tensor.bytes;
  return fail(ErrorCode::kDataLoss, "{}: {}: shape [{}], expected [{}]", tensor.file, name,
              fmt::join(tensor.shape, ", "), fmt::join(expected, ", "));
}

bool has_fused_experts(const Checkpoint& checkpoint, LayerIdx layer) {
  return checkpoint.has_tensor(
      checkpoint.family().tensor_name({.role = TensorRole::kFusedGateUp, .layer = layer}));
}

/// The tensors as the checkpoint has them: fused experts instead of single ones where it does.
std::vector<TensorId> stored_tensors(const Checkpoint& checkpoint) {
  std::vector<TensorId> ids;
  for (const TensorId& id : all_tensors(checkpoint.config())) {
    const bool is_expert = part_of(id.role) == Part::kExperts;
    if (!is_expert || !has_fused_experts(checkpoint, id.layer)) {
      ids.push_back(id);
    } else if (id.role == TensorRole::kExpertGate && id.expert == ExpertId{0}) {
      ids.push_back({.role = TensorRole::kFusedGateUp, .layer = id.layer});
      ids.push_back({.role = TensorRole::kFusedDown, .layer = id.layer});
    }
  }
  return ids;
}

}  // namespace

Result<ModelSummary> summarize(const Checkpoint& checkpoint, WeightFormat format) {
  const ModelConfig& config = checkpoint.config();
  std::map<Part, PartSize> parts;
  for (const TensorId& id : stored_tensors(checkpoint)) {
    PREGATE_ASSIGN(const size_t stored_bytes, checkpoint_bytes(checkpoint, id));
    PartSize& part = parts[part_of(id.role)];
    part.part = part_of(id.role);
    const std::vector<size_t> shape = tensor_shape(config, id);
    part.parameters += parameters_of(shape);
    part.checkpoint_bytes += stored_bytes;
    const std::vector<size_t> rows{parameters_of(shape) / shape.back(), shape.back()};
    PREGATE_ASSIGN(const WeightFormat kept, format_of(checkpoint, id, format));
    part.loaded_bytes += loaded_bytes(id, shape.size() == 3 ? rows : shape, kept, stored_bytes);
  }
  if (config.tie_embeddings) {  // the same parameters once more, packed for the last product
    PREGATE_ASSIGN(const WeightFormat kept,
                   format_of(checkpoint, {.role = TensorRole::kEmbedding}, format));
    parts[Part::kLmHead] = {
        .part = Part::kLmHead,
        .loaded_bytes = config.vocab_size * compute::weight_row_bytes(kept, config.hidden_size)};
  }

  ModelSummary summary;
  size_t num_moe_layers = 0;
  for (const LayerConfig& layer : config.layers) num_moe_layers += layer.is_moe ? 1 : 0;
  summary.num_routed_experts = num_moe_layers * config.num_experts;
  for (const auto& [part, size] : parts) {
    summary.parts.push_back(size);
    summary.total_parameters += size.parameters;
    const bool is_routed = part == Part::kExperts;
    summary.active_parameters +=
        is_routed ? size.parameters * config.top_k / config.num_experts : size.parameters;
    if (!is_routed) summary.backbone_loaded_bytes += size.loaded_bytes;
    if (is_routed) summary.expert_loaded_bytes = size.loaded_bytes / summary.num_routed_experts;
  }
  summary.kv_bytes_per_token = config.num_layers() * 2 * config.num_kv_heads * config.head_dim *
                               compute::dtype_bytes(compute::DType::kBf16);
  return summary;
}

std::vector<size_t> experts_per_worker(size_t num_routed_experts, size_t num_workers) {
  std::vector<size_t> counts(num_workers, num_routed_experts / std::max<size_t>(num_workers, 1));
  for (size_t w = 0; w < num_workers && w < num_routed_experts % num_workers; ++w) ++counts[w];
  return counts;
}

}  // namespace pregate::model
