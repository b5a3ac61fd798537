#include "worker/serving/leased_tasks.h"

#include <algorithm>
#include <numeric>

namespace pregate::worker {
namespace {

using compute::ExpertTask;
using Group = std::vector<ExpertCache::Leased>;

/// Results of each task's rows by themselves: what is to be added before them may not be there yet.
class Products {
 public:
  Products(size_t num_tasks, size_t hidden_size) : hidden_size_(hidden_size), of_(num_tasks) {}

  void compute(compute::Backend& backend, const Group& group, const compute::EncodedRows& rows,
               std::span<const ExpertTask> tasks) {
    size_t num_rows = 0;
    for (const auto& [index, expert] : group) num_rows += tasks[index].rows.size();
    std::vector<uint32_t> places(num_rows);
    std::iota(places.begin(), places.end(), 0u);
    std::vector<float>& results = results_.emplace_back(num_rows * hidden_size_);
    std::vector<ExpertTask> apart;
    size_t first = 0;
    for (const auto& [index, expert] : group) {
      ExpertTask task = tasks[index];
      task.expert = expert;
      task.out_rows = std::span(places).subspan(first, task.rows.size());
      of_[index] = results.data() + first * hidden_size_;
      first += task.rows.size();
      apart.push_back(task);
    }
    backend.experts(rows, apart, {results.data(), num_rows, hidden_size_});
  }

  /// In the order of the tasks, as a back end adds.
  void add_up(std::span<const ExpertTask> tasks, compute::Matrix<float> out) const {
    std::fill_n(out.data, out.rows * out.cols, 0.0f);
    for (size_t i = 0; i < tasks.size(); ++i) {
      const float* result = of_[i];
      for (const uint32_t row : tasks[i].out_rows) {
        for (float& value : out.row(row)) value += *result++;
      }
    }
  }

 private:
  const size_t hidden_size_;
  std::vector<std::vector<float>> results_;  // of each group
  std::vector<const float*> of_;             // each task's, in there
};

}  // namespace

Status compute_leased(compute::Backend& backend, ExpertCache::Lease& lease,
                      const compute::EncodedRows& rows, std::span<ExpertTask> tasks,
                      compute::Matrix<float> out) {
  if (lease.num_missing() == 0) {
    PREGATE_ASSIGN(const Group all, lease.next());
    for (const auto& [index, expert] : all) tasks[index].expert = expert;
    backend.experts(rows, tasks, out);
    return {};
  }
  Products products(tasks.size(), out.cols);
  for (;;) {
    PREGATE_ASSIGN(const Group group, lease.next());
    if (group.empty()) break;
    products.compute(backend, group, rows, tasks);
  }
  products.add_up(tasks, out);
  return {};
}

}  // namespace pregate::worker
