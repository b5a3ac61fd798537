// How large a model is, for `pregate inspect` and for planning.
#pragma once

#include <vector>

#include "compute/backend.h"
#include "model/checkpoint/checkpoint.h"
#include "model/families/tensors.h"

namespace pregate::model {

struct PartSize {
  Part part = Part::kEmbedding;
  size_t parameters = 0;
  size_t checkpoint_bytes = 0;
  size_t loaded_bytes = 0;  ///< In memory with the asked-for format; a back end may pad a little.
};

struct ModelSummary {
  std::vector<PartSize> parts;  ///< Those the model has.
  size_t total_parameters = 0;
  size_t active_parameters = 0;  ///< Per token: all but the experts it does not go to.
  size_t backbone_loaded_bytes = 0;
  size_t expert_loaded_bytes = 0;  ///< Of one routed expert.
  size_t num_routed_experts = 0;   ///< Over all layers.
  size_t kv_bytes_per_token = 0;   ///< Over all layers, for a bf16 cache.
};

/// Errors as load_backbone(): a tensor that is missing or has a wrong shape.
Result<ModelSummary> summarize(const Checkpoint& checkpoint, compute::WeightFormat format);

/// Experts each of `num_workers` workers holds when they are spread evenly; the first get one more.
std::vector<size_t> experts_per_worker(size_t num_routed_experts, size_t num_workers);

}  // namespace pregate::model
