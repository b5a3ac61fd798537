#include "compute/cuda/slices.h"

#include <algorithm>

namespace pregate::compute::cuda {

std::vector<RowRange> cut_rows(size_t num_rows, size_t max_rows) {
  std::vector<RowRange> ranges;
  const size_t most = std::max<size_t>(1, max_rows);
  for (size_t first = 0; first < num_rows; first += most) {
    ranges.push_back({first, std::min(most, num_rows - first)});
  }
  return ranges;
}

std::vector<RowRange> cut_rows(std::span<const ExpertTask> tasks, size_t num_out_rows,
                               size_t max_products) {
  size_t all = 0;
  for (const ExpertTask& task : tasks) all += task.rows.size();
  if (all <= max_products) return cut_rows(num_out_rows, num_out_rows);
  std::vector<size_t> num_products(num_out_rows);
  for (const ExpertTask& task : tasks) {
    for (const uint32_t row : task.out_rows) ++num_products[row];
  }
  std::vector<RowRange> ranges;
  size_t sum = 0;
  for (size_t row = 0; row < num_out_rows; ++row) {
    sum += num_products[row];
    if (ranges.empty() || sum > max_products) {
      ranges.push_back({row, 0});
      sum = num_products[row];
    }
    ++ranges.back().count;
  }
  return ranges;
}

TaskSlice::TaskSlice(std::span<const ExpertTask> tasks, const RowRange& range) {
  lists_.resize(tasks.size());
  for (size_t t = 0; t < tasks.size(); ++t) {
    const ExpertTask& task = tasks[t];
    Lists& lists = lists_[t];
    for (size_t i = 0; i < task.rows.size(); ++i) {
      const size_t row = task.out_rows[i];
      if (row < range.first || row >= range.first + range.count) continue;
      lists.rows.push_back(task.rows[i]);
      lists.out_rows.push_back(static_cast<uint32_t>(row - range.first));
      lists.gates.push_back(task.gates[i]);
    }
    tasks_.push_back({task.expert, lists.rows, lists.out_rows, lists.gates});
  }
}

}  // namespace pregate::compute::cuda
