// The experts that this worker holds.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "compute/backend.h"
#include "protocol/messages.h"

namespace pregate::worker {

using ExpertKey = std::pair<LayerIdx, ExpertId>;

/// Thread-safe: one thread loads and drops while another computes.
class ExpertStore {
 public:
  /// An expert that is dropped lives until the last of these is gone.
  using Expert = std::shared_ptr<const compute::PackedExpert>;

  explicit ExpertStore(compute::WeightFormat format) : format_(format) {}

  /// Of all experts.
  compute::WeightFormat format() const { return format_; }
  /// Null if it is not held.
  Expert find(const ExpertKey& key) const;
  /// Must not be held yet.
  void insert(const ExpertKey& key, Expert expert);
  /// Drops all others; returns how many.
  size_t keep_only(const std::set<ExpertKey>& wanted);

  size_t num_experts() const;
  size_t bytes() const;
  /// Ascending, neighbours of a layer joined.
  std::vector<protocol::ExpertRange> ranges() const;

 private:
  const compute::WeightFormat format_;
  mutable std::mutex mutex_;
  std::map<ExpertKey, Expert> experts_;  // guarded by mutex_
  size_t bytes_ = 0;                     // guarded by mutex_
};

}  // namespace pregate::worker
