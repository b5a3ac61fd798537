// What a store holds of an expert that is on this worker's disk, and in memory only while a cache
// has it (worker/experts/cache/).
#pragma once

#include "worker/experts/read_expert.h"

namespace pregate::worker {

/// Takes no memory and must not be computed with: whoever serves leases the expert from the cache.
class ExpertOnDisk final : public compute::PackedExpert {
 public:
  ExpertOnDisk(compute::WeightFormat format, size_t hidden_size)
      : format_(format), hidden_size_(hidden_size) {}

  compute::WeightFormat format() const override { return format_; }
  size_t hidden_size() const override { return hidden_size_; }
  size_t intermediate_size() const override { return 0; }
  size_t bytes() const override { return 0; }

  /// For a loader: "loads" at once, and reads nothing.
  static ReadExpert reader(compute::WeightFormat format, size_t hidden_size) {
    return [=](LayerIdx, ExpertId) { return std::make_unique<ExpertOnDisk>(format, hidden_size); };
  }

 private:
  const compute::WeightFormat format_;
  const size_t hidden_size_;
};

}  // namespace pregate::worker
