// What a refactored Llama's files say beyond Llama's.
//
// Its three published forms: masked dense (the dense MLP as it was, and mask.pt), and converted,
// either unfused (the shared channels once per layer, each expert's own beside them) or fused (each
// expert with the shared channels, which are stored once per expert).
#pragma once

#include <filesystem>

#include "model/families/family.h"

namespace pregate::model {

/// The router's fields; N_cluster is the number of experts.
void read_predictor(FieldReader& fields, ModelConfig& config);
void write_predictor(const ModelConfig& config, boost::json::object& json);

/// Finds out which form the files have, and the widths of router, shared parts and experts: they
/// are nowhere but in the tensors. Errors name file and tensor.
Status read_widths(const std::filesystem::path& directory, const TensorFiles& files,
                   const Family& family, ModelConfig& config);

}  // namespace pregate::model
