// How much each channel of a dense model's MLPs is used: what its experts are made from.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "model/weights.h"

namespace pregate::model {

/// The mean of |silu(gate x) * (up x)|, the down projection's input, per layer and channel
/// (arXiv 2410.19123, section 3). Used by one thread.
class ActivationStatistics {
 public:
  /// Of a model all of whose layers are dense. Gate and up projections are loaded once more, in
  /// f32. The back end must outlive it.
  static Result<ActivationStatistics> create(const Checkpoint& checkpoint,
                                             compute::Backend& backend);

  /// Rows [n, h], the input of the layer's MLP after its norm.
  void add(LayerIdx layer, compute::Matrix<const float> rows);

  /// The means [layers, channels] since the last call.
  std::vector<float> take_means();

  size_t num_layers() const { return layers_.size(); }
  size_t num_channels() const { return num_channels_; }

 private:
  struct Layer {
    MatrixPtr gate, up;
    std::vector<double> sums;  // [channels]
    size_t num_rows = 0;
  };

  ActivationStatistics(compute::Backend& backend, size_t num_channels)
      : backend_(&backend), num_channels_(num_channels) {}

  compute::Backend* backend_;
  size_t num_channels_;
  std::vector<Layer> layers_;
  std::vector<float> gate_rows_, up_rows_;  // scratch, [n, channels]
};

/// Safetensors: one F32 tensor [layers, channels] per text, under the text's name.
Status write_activations(const std::filesystem::path& path, size_t num_layers, size_t num_channels,
                         const std::map<std::string, std::vector<float>>& means);

}  // namespace pregate::model
