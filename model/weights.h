// From a checkpoint to weights a back end can use.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "compute/backend.h"
#include "compute/row_memory.h"
#include "model/config.h"
#include "model/families/tensors.h"

namespace pregate::model {

class Checkpoint;   // model/checkpoint/checkpoint.h
class DirectFiles;  // model/checkpoint/direct_files.h
struct TensorView;  // model/checkpoint/checkpoint.h

/// How a matrix is kept that is no part of an expert or an MLP, and no gate (which are in f32):
/// rounded to q4 they cost more accuracy than all experts, and are a small part of the memory. In
/// f8 is what need not be rounded to it.
compute::WeightFormat matrix_format(compute::WeightFormat weights, const TensorView& matrix);

/// Called now and then from the loading thread with the bytes packed so far and in all.
using LoadProgress = std::function<void(size_t done_bytes, size_t total_bytes)>;

using MatrixPtr = std::unique_ptr<compute::PackedMatrix>;
using ExpertPtr = std::unique_ptr<compute::PackedExpert>;

/// All that a layer needs apart from its routed experts. Vectors are empty where a family has none.
struct LayerWeights {
  compute::RowVector input_norm, post_attention_norm;  // [h]
  MatrixPtr q, k, v, o;
  compute::RowVector q_bias, k_bias, v_bias, o_bias;
  compute::RowVector q_norm, k_norm;  // [d] per head, or the full width
  MatrixPtr router;                   // f32 [num_experts, h]; null in a dense layer
  ExpertPtr dense;                    // the MLP of a dense layer
  ExpertPtr shared;                   // the shared expert
  MatrixPtr shared_gate;              // f32 [1, h]: its sigmoid gate
};

/// y = weight x + bias, in f32.
struct AffineMap {
  MatrixPtr weight;
  std::vector<float> bias;
};

/// The pre-gating router, where a model has one; see router/pregate/pregate_router.h. Its rows and
/// vectors lie in host memory.
struct PregateWeights {
  compute::SourceMatrix embedding;  ///< [vocab, e], in the mapped checkpoint.
  std::vector<float> input_norm, post_attention_norm, out_norm;  // [e]
  AffineMap q, k, v, o, mlp_in, mlp_out, out;
};

/// The model without its routed experts: what an engine holds.
struct BackboneWeights {
  compute::SourceMatrix embedding;  ///< [vocab, h], in the mapped checkpoint.
  std::vector<LayerWeights> layers;
  compute::RowVector final_norm;  // [h]
  MatrixPtr lm_head;              // [vocab, h]
  std::optional<PregateWeights> pregate;
  std::shared_ptr<const Checkpoint> checkpoint;  ///< Keeps `embedding` mapped.

  size_t bytes() const;
};

/// Errors name the tensor and file: kNotFound for a missing tensor, kDataLoss for a wrong shape or
/// type.
Result<BackboneWeights> load_backbone(std::shared_ptr<const Checkpoint> checkpoint,
                                      compute::Backend& backend, compute::WeightFormat format,
                                      const LoadProgress& progress);

/// One routed expert. Touches only that expert's bytes of the checkpoint (all channels of the layer
/// where experts are parts of a dense MLP), mapped or, given the checkpoint's files, read directly.
/// kDataLoss if the files are not those any more that were opened.
Result<ExpertPtr> load_expert(const Checkpoint& checkpoint, LayerIdx layer, ExpertId expert,
                              compute::Backend& backend, compute::WeightFormat format,
                              const DirectFiles* direct = nullptr);

/// One matrix of the model.
Result<MatrixPtr> load_matrix(const Checkpoint& checkpoint, const TensorId& id,
                              compute::Backend& backend, compute::WeightFormat format);

}  // namespace pregate::model
