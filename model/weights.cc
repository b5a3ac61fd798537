#include "model/weights.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "base/check.h"
#include "compute/f8.h"
#include "compute/source.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/direct_files.h"
#include "model/families/family.h"
#include "model/refactored/channel_masks.h"

namespace pregate::model {
namespace {

using compute::ExpertSource;
using compute::SourceMatrix;
using compute::WeightFormat;
using enum TensorRole;

constexpr WeightFormat kRouterFormat = WeightFormat::kF32;  // gate arithmetic is f32 throughout

/// A back end's error does not know the tensor it was given.
Error about_tensor(Error error, const TensorView& tensor, const std::string& name) {
  return in_context(std::move(error), fmt::format("{}: {}", tensor.file, name));
}

/// Finds tensors by role, checks their shapes and packs them.
class Loader {
 public:
  /// `direct`: null to use the mapped files.
  Loader(const Checkpoint& checkpoint, compute::Backend& backend, WeightFormat format,
         const DirectFiles* direct = nullptr)
      : checkpoint_(checkpoint), backend_(backend), format_(format), direct_(direct) {}

  std::string name(const TensorId& id) const { return checkpoint_.family().tensor_name(id); }

  Result<TensorView> find(const TensorId& id) {
    PREGATE_ASSIGN(TensorView tensor, checkpoint_.tensor(name(id)));
    if (files_.try_emplace({tensor.file, tensor.scales_file}, tensor).second) {
      PREGATE_TRY(checkpoint_.check_unchanged(tensor));
    }
    const std::vector<size_t> expected = tensor_shape(checkpoint_.config(), id);
    if (tensor.shape == expected) return tensor;
    return fail(ErrorCode::kDataLoss, "{}: {}: shape [{}], expected [{}]", tensor.file, name(id),
                fmt::join(tensor.shape, ", "), fmt::join(expected, ", "));
  }

  /// That the files in use are still the same, after what was read of them.
  Status check_files() const {
    for (const auto& [paths, tensor] : files_) PREGATE_TRY(checkpoint_.check_unchanged(tensor));
    return {};
  }

  Result<SourceMatrix> source(const TensorId& id) {
    PREGATE_ASSIGN(const TensorView tensor, find(id));
    return source(tensor);
  }

  Result<SourceMatrix> source(const TensorView& tensor) {
    return rows_of(tensor, 0, tensor.shape[0], tensor.shape[1]);
  }

  /// `rows` rows of `cols` numbers each, beginning with the first_row-th; valid while this lives.
  /// All rows, of a tensor that has scales.
  Result<SourceMatrix> rows_of(const TensorView& tensor, size_t first_row, size_t rows,
                               size_t cols) {
    PREGATE_CHECK(tensor.scales.data == nullptr || rows == tensor.shape[0]);
    const size_t row_bytes = cols * compute::dtype_bytes(tensor.dtype);
    const std::byte* data = tensor.data + first_row * row_bytes;
    if (direct_ != nullptr) {
      PREGATE_ASSIGN(auto bytes, direct_->read(tensor, first_row * row_bytes, rows * row_bytes));
      data = buffers_.emplace_back(std::move(bytes)).bytes().data();
    }
    return SourceMatrix{data, tensor.dtype, rows, cols, tensor.scales};
  }

  Result<std::vector<float>> vector(const TensorId& id) {
    PREGATE_ASSIGN(const TensorView tensor, find(id));
    std::vector<float> values(tensor.shape[0]);
    const Status read = compute::read_row({tensor.data, tensor.dtype, 1, values.size()}, 0, values);
    if (!read) return fail(about_tensor(read.error(), tensor, name(id)));
    count(tensor);
    return values;
  }
  Result<compute::RowVector> row_vector(const TensorId& id) {
    PREGATE_ASSIGN(const auto values, vector(id));
    return compute::RowVector::make(values, backend_);
  }

  Result<MatrixPtr> matrix(const TensorId& id, WeightFormat format) {
    PREGATE_ASSIGN(const TensorView tensor, find(id));
    PREGATE_ASSIGN(const SourceMatrix rows, source(tensor));
    auto packed = backend_.pack(rows, format);
    if (!packed) return fail(about_tensor(std::move(packed.error()), tensor, name(id)));
    count(tensor);
    return packed;
  }
  Result<MatrixPtr> matrix(const TensorId& id) {
    PREGATE_ASSIGN(const TensorView tensor, find(id));
    return matrix(id, matrix_format(format_, tensor));
  }

  Result<ExpertPtr> mlp(const TensorId& gate, const TensorId& up, const TensorId& down) {
    if (checkpoint_.config().masks && gate.role != kDenseGate) return masked_mlp(gate);
    PREGATE_ASSIGN(const TensorView gate_tensor, find(gate));
    PREGATE_ASSIGN(const TensorView up_tensor, find(up));
    PREGATE_ASSIGN(const TensorView down_tensor, find(down));
    PREGATE_ASSIGN(const SourceMatrix gate_rows, source(gate_tensor));
    PREGATE_ASSIGN(const SourceMatrix up_rows, source(up_tensor));
    PREGATE_ASSIGN(const SourceMatrix down_rows, source(down_tensor));
    PREGATE_ASSIGN(ExpertPtr expert,
                   pack_expert({gate_rows, up_rows, down_rows}, gate_tensor,
                               fmt::format("{} and its up and down", name(gate))));
    for (const TensorView* tensor : {&gate_tensor, &up_tensor, &down_tensor}) count(*tensor);
    return expert;
  }

  /// An expert, or the shared part, as channels of a dense MLP.
  Result<ExpertPtr> masked_mlp(const TensorId& id) {
    const LayerChannels& masks = checkpoint_.config().masks->layer(id.layer);
    const auto& channels =
        id.role == kSharedGateProjection ? masks.shared : masks.own[id.expert.value];
    PREGATE_ASSIGN(const SourceMatrix gate, source({.role = kDenseGate, .layer = id.layer}));
    PREGATE_ASSIGN(const SourceMatrix up, source({.role = kDenseUp, .layer = id.layer}));
    const TensorId down_id{.role = kDenseDown, .layer = id.layer};
    PREGATE_ASSIGN(const TensorView tensor, find(down_id));
    PREGATE_ASSIGN(const SourceMatrix down, source(tensor));
    for (const SourceMatrix& matrix : {gate, up, down}) {
      if (matrix.scales.data == nullptr) continue;
      return fail(ErrorCode::kUnimplemented,
                  "{}: {}: experts are channels of matrices in F8_E4M3; expected F32, BF16 or F16",
                  tensor.file, name(down_id));
    }
    const auto gate_rows = gather_rows(gate, channels), up_rows = gather_rows(up, channels);
    const auto down_columns = gather_columns(down, channels);
    const size_t width = channels.size(), h = gate.cols;
    return pack_expert({{gate_rows.data(), gate.dtype, width, h},
                        {up_rows.data(), up.dtype, width, h},
                        {down_columns.data(), down.dtype, h, width}},
                       tensor, fmt::format("{}: channels of expert {}", name(down_id), id.expert));
  }

  Result<AffineMap> affine(TensorRole weight, TensorRole bias) {
    AffineMap map;
    PREGATE_ASSIGN(map.weight, matrix({.role = weight}, kRouterFormat));
    PREGATE_ASSIGN(map.bias, vector({.role = bias}));
    return map;
  }

  /// An expert out of the tensors that hold all experts of a layer: gate_up [E, 2f, h], gate
  /// first, and down [E, h, f].
  Result<ExpertPtr> fused_expert(LayerIdx layer, ExpertId expert) {
    const TensorId gate_up_id{.role = kFusedGateUp, .layer = layer};
    PREGATE_ASSIGN(const TensorView gate_up, find(gate_up_id));
    PREGATE_ASSIGN(const TensorView down, find({.role = kFusedDown, .layer = layer}));
    const size_t h = checkpoint_.config().hidden_size;
    const size_t f = checkpoint_.config().expert_size(layer, expert);
    const size_t e = expert.value;
    PREGATE_ASSIGN(const SourceMatrix gate_rows, rows_of(gate_up, e * 2 * f, f, h));
    PREGATE_ASSIGN(const SourceMatrix up_rows, rows_of(gate_up, e * 2 * f + f, f, h));
    PREGATE_ASSIGN(const SourceMatrix down_rows, rows_of(down, e * h, h, f));
    return pack_expert({gate_rows, up_rows, down_rows}, gate_up,
                       fmt::format("{}: expert {}", name(gate_up_id), expert));
  }

  void report_to(const LoadProgress& progress, size_t total_bytes) {
    progress_ = progress;
    total_bytes_ = total_bytes;
  }

 private:
  Result<ExpertPtr> pack_expert(const ExpertSource& source, const TensorView& tensor,
                                const std::string& name) {
    auto packed = backend_.pack_expert(source, format_);
    if (!packed) return fail(about_tensor(std::move(packed.error()), tensor, name));
    return packed;
  }

  void count(const TensorView& tensor) {
    checkpoint_.drop(tensor);
    done_bytes_ += tensor.bytes;
    if (progress_) progress_(done_bytes_, total_bytes_);
  }

  const Checkpoint& checkpoint_;
  compute::Backend& backend_;
  const WeightFormat format_;
  const DirectFiles* const direct_;
  /// Those in use, with one of the tensors that lie in them.
  std::map<std::pair<std::string_view, std::string_view>, TensorView> files_;
  std::vector<FileBytes> buffers_;  // of what was read directly
  LoadProgress progress_;
  size_t done_bytes_ = 0, total_bytes_ = 0;
};

Status load_attention(Loader& loader, const ModelConfig& config, LayerIdx layer,
                      LayerWeights& weights) {
  const auto id = [&](TensorRole role) { return TensorId{.role = role, .layer = layer}; };
  PREGATE_ASSIGN(weights.q, loader.matrix(id(kQuery)));
  PREGATE_ASSIGN(weights.k, loader.matrix(id(kKey)));
  PREGATE_ASSIGN(weights.v, loader.matrix(id(kValue)));
  PREGATE_ASSIGN(weights.o, loader.matrix(id(kAttentionOut)));
  if (config.qkv_bias) {
    PREGATE_ASSIGN(weights.q_bias, loader.row_vector(id(kQueryBias)));
    PREGATE_ASSIGN(weights.k_bias, loader.row_vector(id(kKeyBias)));
    PREGATE_ASSIGN(weights.v_bias, loader.row_vector(id(kValueBias)));
  }
  if (config.attention_out_bias) {
    PREGATE_ASSIGN(weights.o_bias, loader.row_vector(id(kAttentionOutBias)));
  }
  if (config.qk_norm != QkNorm::kNone) {
    PREGATE_ASSIGN(weights.q_norm, loader.row_vector(id(kQueryNorm)));
    PREGATE_ASSIGN(weights.k_norm, loader.row_vector(id(kKeyNorm)));
  }
  return {};
}

Status load_feed_forward(Loader& loader, const ModelConfig& config, LayerIdx layer,
                         LayerWeights& weights) {
  const auto id = [&](TensorRole role) { return TensorId{.role = role, .layer = layer}; };
  if (!config.layers[layer.value].is_moe) {
    PREGATE_ASSIGN(weights.dense, loader.mlp(id(kDenseGate), id(kDenseUp), id(kDenseDown)));
    return {};
  }
  if (!config.pregate) {
    PREGATE_ASSIGN(weights.router, loader.matrix(id(kRouter), kRouterFormat));
  }
  if (config.shared_size(layer) == 0) return {};
  PREGATE_ASSIGN(weights.shared,
                 loader.mlp(id(kSharedGateProjection), id(kSharedUp), id(kSharedDown)));
  if (config.shared_is_gated) {
    PREGATE_ASSIGN(weights.shared_gate, loader.matrix(id(kSharedGate), kRouterFormat));
  }
  return {};
}

Result<PregateWeights> load_pregate(Loader& loader) {
  PregateWeights weights;
  PREGATE_ASSIGN(weights.embedding, loader.source({.role = kPregateEmbedding}));
  PREGATE_ASSIGN(weights.input_norm, loader.vector({.role = kPregateInputNorm}));
  PREGATE_ASSIGN(weights.post_attention_norm, loader.vector({.role = kPregatePostAttentionNorm}));
  PREGATE_ASSIGN(weights.out_norm, loader.vector({.role = kPregateOutNorm}));
  PREGATE_ASSIGN(weights.q, loader.affine(kPregateQuery, kPregateQueryBias));
  PREGATE_ASSIGN(weights.k, loader.affine(kPregateKey, kPregateKeyBias));
  PREGATE_ASSIGN(weights.v, loader.affine(kPregateValue, kPregateValueBias));
  PREGATE_ASSIGN(weights.o, loader.affine(kPregateAttentionOut, kPregateAttentionOutBias));
  PREGATE_ASSIGN(weights.mlp_in, loader.affine(kPregateMlpIn, kPregateMlpInBias));
  PREGATE_ASSIGN(weights.mlp_out, loader.affine(kPregateMlpOut, kPregateMlpOutBias));
  PREGATE_ASSIGN(weights.out, loader.affine(kPregateOut, kPregateOutBias));
  return weights;
}

Result<LayerWeights> load_layer(Loader& loader, const ModelConfig& config, LayerIdx layer) {
  LayerWeights weights;
  PREGATE_ASSIGN(weights.input_norm, loader.row_vector({.role = kInputNorm, .layer = layer}));
  PREGATE_ASSIGN(weights.post_attention_norm,
                 loader.row_vector({.role = kPostAttentionNorm, .layer = layer}));
  PREGATE_TRY(load_attention(loader, config, layer, weights));
  PREGATE_TRY(load_feed_forward(loader, config, layer, weights));
  return weights;
}

/// Bytes of the checkpoint that load_backbone() packs. A missing tensor counts nothing here; the
/// loader reports it.
size_t backbone_source_bytes(const Checkpoint& checkpoint) {
  std::vector<TensorId> ids = outer_tensors(checkpoint.config());
  std::ranges::copy(pregate_tensors(checkpoint.config()), std::back_inserter(ids));
  for (uint32_t l = 0; l < checkpoint.config().num_layers(); ++l) {
    const auto more = layer_tensors(checkpoint.config(), LayerIdx{l});
    ids.insert(ids.end(), more.begin(), more.end());
  }
  size_t total = 0;
  for (const TensorId& id : ids) {
    const auto tensor = checkpoint.tensor(checkpoint.family().tensor_name(id));
    const bool is_mapped = id.role == kPregateEmbedding ||
                           (id.role == kEmbedding && !checkpoint.config().tie_embeddings);
    if (tensor && !is_mapped) total += tensor->bytes;
  }
  return total;
}

size_t bytes_of(const MatrixPtr& matrix) { return matrix == nullptr ? 0 : matrix->bytes(); }
size_t bytes_of(const ExpertPtr& expert) { return expert == nullptr ? 0 : expert->bytes(); }
size_t bytes_of(const std::vector<float>& values) { return values.size() * sizeof(float); }
size_t bytes_of(const compute::RowVector& vector) { return vector.bytes(); }

size_t layer_bytes(const LayerWeights& layer) {
  size_t total = 0;
  for (const auto* values :
       {&layer.input_norm, &layer.post_attention_norm, &layer.q_bias, &layer.k_bias, &layer.v_bias,
        &layer.o_bias, &layer.q_norm, &layer.k_norm}) {
    total += bytes_of(*values);
  }
  for (const auto* matrix :
       {&layer.q, &layer.k, &layer.v, &layer.o, &layer.router, &layer.shared_gate}) {
    total += bytes_of(*matrix);
  }
  return total + bytes_of(layer.dense) + bytes_of(layer.shared);
}

size_t pregate_bytes(const PregateWeights& weights) {
  const compute::SourceMatrix& table = weights.embedding;
  size_t total = table.rows * table.cols * compute::dtype_bytes(table.dtype);
  for (const auto* norm : {&weights.input_norm, &weights.post_attention_norm, &weights.out_norm}) {
    total += bytes_of(*norm);
  }
  for (const AffineMap* map : {&weights.q, &weights.k, &weights.v, &weights.o, &weights.mlp_in,
                               &weights.mlp_out, &weights.out}) {
    total += bytes_of(map->weight) + bytes_of(map->bias);
  }
  return total;
}

}  // namespace

WeightFormat matrix_format(WeightFormat weights, const TensorView& matrix) {
  const bool is_kept =
      weights == WeightFormat::kF8 && compute::is_kept_in_f8(matrix.dtype, matrix.scales);
  return is_kept ? weights : compute::arithmetic_of(weights);
}

size_t BackboneWeights::bytes() const {
  size_t total = embedding.rows * embedding.cols * compute::dtype_bytes(embedding.dtype);
  for (const LayerWeights& layer : layers) total += layer_bytes(layer);
  if (pregate) total += pregate_bytes(*pregate);
  return total + bytes_of(final_norm) + bytes_of(lm_head);
}

Result<BackboneWeights> load_backbone(std::shared_ptr<const Checkpoint> checkpoint,
                                      compute::Backend& backend, WeightFormat format,
                                      const LoadProgress& progress) {
  const ModelConfig& config = checkpoint->config();
  Loader loader(*checkpoint, backend, format);
  loader.report_to(progress, backbone_source_bytes(*checkpoint));
  BackboneWeights weights;
  PREGATE_ASSIGN(weights.embedding, loader.source({.role = kEmbedding}));
  for (uint32_t l = 0; l < config.num_layers(); ++l) {
    PREGATE_ASSIGN(LayerWeights layer, load_layer(loader, config, LayerIdx{l}));
    weights.layers.push_back(std::move(layer));
  }
  PREGATE_ASSIGN(weights.final_norm, loader.row_vector({.role = kFinalNorm}));
  const TensorRole head = config.tie_embeddings ? kEmbedding : kLmHead;
  PREGATE_ASSIGN(weights.lm_head, loader.matrix({.role = head}));
  if (config.pregate) {
    PREGATE_ASSIGN(weights.pregate, load_pregate(loader));
  }
  weights.checkpoint = std::move(checkpoint);
  return weights;
}

Result<MatrixPtr> load_matrix(const Checkpoint& checkpoint, const TensorId& id,
                              compute::Backend& backend, WeightFormat format) {
  return Loader(checkpoint, backend, format).matrix(id);
}

Result<ExpertPtr> load_expert(const Checkpoint& checkpoint, LayerIdx layer, ExpertId expert,
                              compute::Backend& backend, WeightFormat format,
                              const DirectFiles* direct) {
  const ModelConfig& config = checkpoint.config();
  if (layer.value >= config.num_layers() || !config.layers[layer.value].is_moe ||
      expert.value >= config.num_experts) {
    return fail(ErrorCode::kInvalidArgument, "{}: no expert {} in layer {}",
                checkpoint.directory().string(), expert, layer);
  }
  Loader loader(checkpoint, backend, format, direct);
  const bool is_fused = checkpoint.has_tensor(loader.name({.role = kFusedGateUp, .layer = layer}));
  auto loaded = is_fused ? loader.fused_expert(layer, expert)
                         : loader.mlp({kExpertGate, layer, expert}, {kExpertUp, layer, expert},
                                      {kExpertDown, layer, expert});
  // First: a file that changed meanwhile explains any other error.
  PREGATE_TRY(loader.check_files());
  return loaded;
}

}  // namespace pregate::model
