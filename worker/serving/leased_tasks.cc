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
  PREGATE_ASSIGN(compute::Matrix<float> room, products_.take_rows(num_products, out.cols));
  products_of_.resize(tasks.size());
  for (;;) {
    PREGATE_ASSIGN(const Group group, lease.next());
    if (group.empty()) break;
    const size_t used = multiply(group, rows, tasks, room);
    room = room.slice_rows(used, room.rows - used);
  }
  add_up(tasks, out);
  return {};
}

/// Into the first of `room`'s rows; of how many.
size_t LeasedTasks::multiply(const Group& group, const compute::EncodedRows& rows,
                             std::span<const ExpertTask> tasks, compute::Matrix<float> room) {
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
    products_of_[index] = room.data + first * room.stride;
    first += task.rows.size();
    apart.push_back(task);
  }
  backend_.experts(rows, apart, room.slice_rows(0, num_products));
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
