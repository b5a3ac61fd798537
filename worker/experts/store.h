// The experts that this worker holds.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "compute/backend.h"
#include "protocol/messages.h"
#include "worker/experts/expert_key.h"

namespace pregate::worker {

/// Thread-safe: one thread loads and drops while another computes.
class ExpertStore {
 public:
  /// An expert that is dropped lives until the last of these is gone, the store itself or not.
  using Expert = std::shared_ptr<const compute::PackedExpert>;

  explicit ExpertStore(compute::WeightFormat format) : format_(format) {}

  /// Of all experts.
  compute::WeightFormat format() const { return format_; }
  /// Null if it is not held.
  Expert find(const ExpertKey& key) const;
  /// Must not be held yet.
  void insert(const ExpertKey& key, std::unique_ptr<const compute::PackedExpert> expert);
  /// Drops all others; returns how many.
  size_t keep_only(const std::set<ExpertKey>& wanted);

  size_t num_experts() const;
  size_t bytes() const;
  /// Of these and of those that were dropped and are still used.
  size_t bytes_in_memory() const { return *in_memory_; }
  /// Ascending, neighbours of a layer joined.
  std::vector<protocol::ExpertRange> ranges() const;

 private:
  const compute::WeightFormat format_;
  mutable std::mutex mutex_;
  std::map<ExpertKey, Expert> experts_;  // guarded by mutex_
  size_t bytes_ = 0;                     // guarded by mutex_
  const std::shared_ptr<std::atomic<size_t>> in_memory_ = std::make_shared<std::atomic<size_t>>(0);
};

}  // namespace pregate::worker
