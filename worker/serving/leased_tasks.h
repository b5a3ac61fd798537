// Computes with experts of which some are still on their way into memory.
#pragma once

#include <span>

#include "compute/row_memory.h"
#include "worker/experts/cache/expert_cache.h"

namespace pregate::worker {

class LeasedTasks {
 public:
  /// `backend` outlives it.
  explicit LeasedTasks(compute::Backend& backend)
      : backend_(backend), shared_rows_(backend.shared_rows()), host_sums_(backend) {}

  /// What Backend::experts(rows, tasks, out) does, to the bit, where tasks[i] is for the i-th
  /// expert of `lease`, of which nothing was asked yet: what is in memory is computed first, the
  /// rest as it arrives. Sets the tasks' experts meanwhile. `out` is in row memory, and the experts
  /// are needed no more when this returns. Errors: kUnavailable, naming the expert, when one cannot
  /// be loaded; then `out` means nothing.
  Status compute(ExpertCache::Lease& lease, const compute::EncodedRows& rows,
                 std::span<compute::ExpertTask> tasks, compute::Matrix<float> out);

 private:
  using Group = std::vector<ExpertCache::Leased>;

  struct Memory {
    std::shared_ptr<std::byte[]> data;
    bool is_row_memory = false;
  };
  Memory allocate(size_t bytes) const;

  size_t multiply(const Group& group, const compute::EncodedRows& rows,
                  std::span<const compute::ExpertTask> tasks, compute::Matrix<float> left);
  void add_up(std::span<const compute::ExpertTask> tasks, compute::Matrix<float> out);

  compute::Backend& backend_;
  const std::shared_ptr<DeviceMemory> shared_rows_;  // null: row memory is the host's
  compute::HostCopy host_sums_;
  /// Of each task's rows by themselves: what is to be added before them may not be there yet.
  std::vector<const float*> products_of_;
};

}  // namespace pregate::worker
