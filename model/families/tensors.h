// The tensors a model consists of, apart from what a family calls them.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"

namespace pregate::model {

enum class TensorRole {
  kEmbedding,
  kFinalNorm,
  kLmHead,
  // One per layer.
  kInputNorm,
  kPostAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOut,
  kQueryBias,
  kKeyBias,
  kValueBias,
  kAttentionOutBias,
  kQueryNorm,
  kKeyNorm,
  kRouter,
  kDenseGate,
  kDenseUp,
  kDenseDown,
  kSharedGateProjection,
  kSharedUp,
  kSharedDown,
  kSharedGate,  ///< The sigmoid gate of the shared expert.
  // One per expert of a layer.
  kExpertGate,
  kExpertUp,
  kExpertDown,
  // All experts of a layer in one tensor, as some tools save them; see weights.cc.
  kFusedGateUp,
  kFusedDown,
  // The pre-gating router, one for the whole model.
  kPregateEmbedding,
  kPregateInputNorm,
  kPregatePostAttentionNorm,
  kPregateOutNorm,
  kPregateQuery,
  kPregateKey,
  kPregateValue,
  kPregateAttentionOut,
  kPregateMlpIn,
  kPregateMlpOut,
  kPregateOut,
  kPregateQueryBias,
  kPregateKeyBias,
  kPregateValueBias,
  kPregateAttentionOutBias,
  kPregateMlpInBias,
  kPregateMlpOutBias,
  kPregateOutBias,
};

struct TensorId {
  TensorRole role = TensorRole::kEmbedding;
  LayerIdx layer{};   ///< Where the role is one per layer.
  ExpertId expert{};  ///< Where the role is one per expert.
};

/// What inspect counts separately.
enum class Part { kEmbedding, kAttention, kNorms, kRouter, kShared, kDense, kExperts, kLmHead };

Part part_of(TensorRole role);
std::string_view to_string(Part part);

/// Matrices are [out features, in features].
std::vector<size_t> tensor_shape(const ModelConfig& config, const TensorId& id);

/// The tensors of one layer without its routed experts.
std::vector<TensorId> layer_tensors(const ModelConfig& config, LayerIdx layer);
/// Gate, up and down of one routed expert.
std::vector<TensorId> expert_tensors(LayerIdx layer, ExpertId expert);
/// Those of the pre-gating router, if the model has one.
std::vector<TensorId> pregate_tensors(const ModelConfig& config);
/// Embedding, final norm and, where it is a tensor of its own, lm_head.
std::vector<TensorId> outer_tensors(const ModelConfig& config);
/// Every tensor of the model, layer after layer.
std::vector<TensorId> all_tensors(const ModelConfig& config);

}  // namespace pregate::model
