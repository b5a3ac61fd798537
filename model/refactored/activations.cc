#include "model/refactored/activations.h"

#include <algorithm>
#include <cmath>

#include "compute/f32_rows.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/safetensors_writer.h"

namespace pregate::model {

using compute::Matrix;
using compute::WeightFormat;

Result<ActivationStatistics> ActivationStatistics::create(const Checkpoint& checkpoint,
                                                          compute::Backend& backend) {
  const ModelConfig& config = checkpoint.config();
  ActivationStatistics statistics(backend, config.layers.front().intermediate_size);
  for (uint32_t l = 0; l < config.num_layers(); ++l) {
    const LayerIdx layer(l);
    if (config.layers[l].is_moe) {
      return fail(ErrorCode::kInvalidArgument,
                  "{}: layer {} has experts already, expected a dense model",
                  checkpoint.directory().string(), layer);
    }
    const auto load = [&](TensorRole role) {
      return load_matrix(checkpoint, {.role = role, .layer = layer}, backend, WeightFormat::kF32);
    };
    Layer weights{.sums = std::vector<double>(statistics.num_channels_)};
    PREGATE_ASSIGN(weights.gate, load(TensorRole::kDenseGate));
    PREGATE_ASSIGN(weights.up, load(TensorRole::kDenseUp));
    statistics.layers_.push_back(std::move(weights));
  }
  return statistics;
}

void ActivationStatistics::add(LayerIdx index, Matrix<const float> rows) {
  Layer& layer = layers_.at(index.value);
  const compute::EncodedRows encoded = compute::f32_rows(rows);
  const auto project = [&](const compute::PackedMatrix& matrix, std::vector<float>& out) {
    out.resize(rows.rows * num_channels_);
    backend_->linear(encoded, matrix, {}, {out.data(), rows.rows, num_channels_});
  };
  project(*layer.gate, gate_rows_);
  project(*layer.up, up_rows_);
  for (size_t i = 0; i < gate_rows_.size(); ++i) {
    const float gate = gate_rows_[i];
    layer.sums[i % num_channels_] += std::abs(gate / (1.0f + std::exp(-gate)) * up_rows_[i]);
  }
  layer.num_rows += rows.rows;
}

std::vector<float> ActivationStatistics::take_means() {
  std::vector<float> means;
  for (Layer& layer : layers_) {
    const auto count = static_cast<double>(std::max<size_t>(layer.num_rows, 1));
    for (double& sum : layer.sums) means.push_back(static_cast<float>(sum / count));
    std::ranges::fill(layer.sums, 0.0);
    layer.num_rows = 0;
  }
  return means;
}

Status write_activations(const std::filesystem::path& path, size_t num_layers, size_t num_channels,
                         const std::map<std::string, std::vector<float>>& means) {
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [text, values] : means) {
    tensors.push_back(
        {text,
         "F32",
         {num_layers, num_channels},
         {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}});
  }
  return write_safetensors(path, tensors, {{"format", "pregate-activations"}});
}

}  // namespace pregate::model
