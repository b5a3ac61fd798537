// Which channels of a dense MLP are whose, as Read-ME's mask.pt says (arXiv 2410.19123, section 3).
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "compute/types.h"
#include "model/config.h"

namespace pregate::model {

/// Channels (rows of gate and up, columns of down) in ascending order. No channel is both shared
/// and an expert's own; two experts may own the same one.
struct LayerChannels {
  std::vector<uint32_t> shared;            ///< Maybe none.
  std::vector<std::vector<uint32_t>> own;  ///< One list per expert, none of them empty.
};

/// Immutable, thread-safe.
class ChannelMasks {
 public:
  /// Executes nothing of the file. `config` says how many layers, experts and channels there are.
  /// Errors name file, layer and expert.
  static Result<std::shared_ptr<const ChannelMasks>> read(const std::filesystem::path& path,
                                                          const ModelConfig& config);

  explicit ChannelMasks(std::vector<LayerChannels> layers) : layers_(std::move(layers)) {}
  const LayerChannels& layer(LayerIdx layer) const { return layers_[layer.value]; }

 private:
  std::vector<LayerChannels> layers_;
};

/// The rows, or columns, of a matrix that belong to `channels`, one after the other.
std::vector<std::byte> gather_rows(const compute::SourceMatrix& matrix,
                                   const std::vector<uint32_t>& channels);
std::vector<std::byte> gather_columns(const compute::SourceMatrix& matrix,
                                      const std::vector<uint32_t>& channels);

}  // namespace pregate::model
