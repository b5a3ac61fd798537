// The experts that this worker holds.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>

#include "compute/backend.h"
#include "protocol/messages.h"

namespace pregate::worker {

/// Reads one expert from the checkpoint; touches no bytes of others.
using ExpertLoader = std::function<Result<std::unique_ptr<compute::PackedExpert>>(
    LayerIdx, ExpertId, compute::WeightFormat)>;

/// Used by the worker's compute thread.
class ExpertStore {
 public:
  /// Experts held, to be held, and bytes held.
  using Progress = std::function<void(size_t loaded, size_t total, size_t bytes)>;

  explicit ExpertStore(ExpertLoader loader) : loader_(std::move(loader)) {}

  /// Holds exactly `ranges` afterwards: drops what is not in them, loads what is missing. On an
  /// error, which names layer and expert, it holds what was loaded until then.
  Status assign(std::span<const protocol::ExpertRange> ranges, compute::WeightFormat format,
                const Progress& progress);

  /// Null if it is not held.
  const compute::PackedExpert* find(LayerIdx layer, ExpertId expert) const;
  compute::WeightFormat format() const { return format_; }
  size_t num_experts() const { return experts_.size(); }
  size_t bytes() const { return bytes_; }
  /// Some expert to measure with; null if there is none.
  const compute::PackedExpert* any() const;

 private:
  using Key = std::pair<LayerIdx, ExpertId>;

  void keep_only(const std::set<Key>& wanted);
  Status load(LayerIdx layer, ExpertId expert);

  const ExpertLoader loader_;
  compute::WeightFormat format_ = compute::WeightFormat::kF32;
  std::map<Key, std::unique_ptr<compute::PackedExpert>> experts_;
  size_t bytes_ = 0;
};

}  // namespace pregate::worker
