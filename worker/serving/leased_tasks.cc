#include "worker/serving/leased_tasks.h"

#include <numeric>

#include "compute/addends.h"

namespace pregate::worker {

using compute::ExpertTask;

Status LeasedTasks::compute(ExpertCache::Lease& lease, const compute::EncodedRows& rows,
                            std::span<ExpertTask> tasks, compute::Matrix<float> out) {
  if (lease.num_missing() == 0) {
    PREGATE_ASSIGN(const Group all, lease.next());
    for (const auto& [index, expert] : all) tasks[index].expert = expert;
    backend_.experts(rows, tasks, out);
    backend_.wait();  // until then the lease must not end
    return {};
  }
  size_t num_products = 0;
  for (const ExpertTask& task : tasks) num_products += task.rows.size();
  const Memory memory = allocate(num_products * out.cols * sizeof(float));
  compute::Matrix<float> left{reinterpret_cast<float*>(memory.data.get()), num_products, out.cols};
  products_of_.resize(tasks.size());
  for (;;) {
    PREGATE_ASSIGN(const Group group, lease.next());
    if (group.empty()) break;
    const size_t used = multiply(group, rows, tasks, left);
    left = left.slice_rows(used, left.rows - used);
  }
  add_up(tasks, memory.is_row_memory ? out : host_sums_.begin(out));
  if (!memory.is_row_memory) host_sums_.send(out);
  backend_.wait();  // before the memory is somebody else's
  return {};
}

/// Row memory, as long as there is room; else the host's, which on a processor is the same.
LeasedTasks::Memory LeasedTasks::allocate(size_t bytes) const {
  if (shared_rows_ != nullptr) {
    if (const auto rows = shared_rows_->allocate(bytes)) return {*rows, true};
  }
  return {std::make_shared_for_overwrite<std::byte[]>(bytes), false};
}

/// Into the first of `left`; of how many rows.
size_t LeasedTasks::multiply(const Group& group, const compute::EncodedRows& rows,
                             std::span<const ExpertTask> tasks, compute::Matrix<float> left) {
  size_t num_products = 0;
  for (const auto& [index, expert] : group) num_products += tasks[index].rows.size();
  std::vector<uint32_t> places(num_products);
  std::iota(places.begin(), places.end(), 0u);
  std::vector<ExpertTask> apart;
  size_t first = 0;
  for (const auto& [index, expert] : group) {
    ExpertTask task = tasks[index];
    task.expert = expert;
    task.out_rows = std::span(places).subspan(first, task.rows.size());
    products_of_[index] = left.data + first * left.stride;
    first += task.rows.size();
    apart.push_back(task);
  }
  backend_.experts(rows, apart, left.slice_rows(0, num_products));
  backend_.wait();  // the next group may take the place of this one's experts
  return num_products;
}

/// In the order of the tasks, as a back end adds.
void LeasedTasks::add_up(std::span<const ExpertTask> tasks, compute::Matrix<float> out) {
  compute::Addends addends;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const float* product = products_of_[i];
    for (const uint32_t row : tasks[i].out_rows) {
      addends.add(row, product);
      product += out.cols;
    }
  }
  backend_.sum_rows(addends.by_row(out.rows), out);
}

}  // namespace pregate::worker
