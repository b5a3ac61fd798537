// Calls that need more memory for rows than there is are computed in slices of the rows of `out`. A
// row's result does not depend on the other rows of a call, so this changes no bit.
#pragma once

#include <span>
#include <vector>

#include "compute/backend.h"

namespace pregate::compute::cuda {

struct RowRange {
  size_t first = 0, count = 0;
};

/// Ranges that make up [0, num_rows), of at most `max_rows` each.
std::vector<RowRange> cut_rows(size_t num_rows, size_t max_rows);

/// The same for tasks: ranges of the rows of out that get at most `max_products` products each, or
/// are a single row.
std::vector<RowRange> cut_rows(std::span<const ExpertTask> tasks, size_t num_out_rows,
                               size_t max_products);

/// What tasks add to a range of the rows of out, which are counted from its first here.
class TaskSlice {
 public:
  TaskSlice(std::span<const ExpertTask> tasks, const RowRange& range);
  TaskSlice(const TaskSlice&) = delete;
  TaskSlice& operator=(const TaskSlice&) = delete;

  /// Valid as long as the slice is.
  std::span<const ExpertTask> tasks() const { return tasks_; }

 private:
  struct Lists {
    std::vector<uint32_t> rows, out_rows;
    std::vector<float> gates;
  };

  std::vector<Lists> lists_;
  std::vector<ExpertTask> tasks_;
};

}  // namespace pregate::compute::cuda
