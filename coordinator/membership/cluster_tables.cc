// What follows from who is there and holds what: the table, and what each worker is to hold.
#include <algorithm>

#include "base/log.h"
#include "coordinator/membership/cluster.h"

namespace pregate::coordinator {

void Cluster::refresh_locked(News& news) {
  // Dismissing a drained worker changes the members once more.
  while (std::exchange(dirty_, false)) {
    publish_table_locked(news);
    assign_locked(news);
    dismiss_drained_locked(news);
  }
}

Holdings Cluster::holdings_locked() const {
  Holdings holdings;
  for (const auto& [worker, remote] : remotes_) holdings[worker] = remote.held;
  return holdings;
}

void Cluster::publish_table_locked(News& news) {
  Placement next = routing_table(table_->version() + 1, options_.shape, target_locked(),
                                 holdings_locked(), members_);
  if (next.same_replicas(*table_)) return;
  older_tables_.push_back(table_);
  table_ = std::make_shared<const Placement>(std::move(next));
  const bool was_whole = missing_.empty();
  missing_ = missing_experts(options_.shape, *table_);
  if (was_whole && !missing_.empty() && !stopping_) {
    spdlog::error("{}", health_locked().error().message);
  }
  if (!was_whole && missing_.empty()) spdlog::info("every expert is held by a live worker");
  probe_.table_changed(table_->version(), missing_.size());
  news.table_changed = true;
  changed_.notify_all();
}

std::vector<std::shared_ptr<const Placement>> Cluster::tables_in_use_locked() const {
  std::vector<std::shared_ptr<const Placement>> tables{table_};
  for (const auto& older : older_tables_) {
    if (auto table = older.lock()) tables.push_back(std::move(table));
  }
  return tables;
}

void Cluster::assign_locked(News& news) {
  if (!has_target_locked()) return;
  const auto tables = tables_in_use_locked();
  for (auto& [worker, remote] : remotes_) {
    const Member& member = members_.at(worker);
    if (!member.is_alive() || !remote.connected || !remote.has_reported) continue;
    auto ranges = assignment_for(worker, target_locked(), remote.held, tables, missing_);
    ExpertSet experts = to_set(ranges);
    ExpertSet to_load;
    std::ranges::set_difference(experts, remote.held, std::inserter(to_load, to_load.end()));
    const bool urgent = std::ranges::any_of(
        to_load, [this](const ExpertKey& expert) { return missing_.contains(expert); });
    const bool hurry = urgent && remote.limited;
    if (remote.assignment > 0 && experts == remote.assigned && !hurry) continue;
    remote.assignment = ++last_assignment_;
    remote.limited = !urgent && !to_load.empty();
    remote.assigned = std::move(experts);
    remote.ranges = std::move(ranges);
    std::erase_if(remote.held, [&remote = remote](const ExpertKey& expert) {
      return !remote.assigned.contains(expert) && remote.ordered_out.insert(expert).second;
    });
    send_assignment_locked(worker, remote);
    if (!to_load.empty()) apply_locked(event::Assigned{worker}, news);
  }
}

void Cluster::send_assignment_locked(WorkerId worker, Remote& remote) {
  const protocol::AssignExperts message{
      .assignment = remote.assignment,
      .bytes_per_second = remote.limited ? options_.rebalance_bytes_per_second : 0,
      .ranges = remote.ranges};
  remote.assigned_at = clock_.now();
  (void)send_locked(worker, encode_header(message),
                    transport::Payload::copy_of(encode_payload(message)));
}

/// A worker that drains may go when nobody is sent to it any more.
void Cluster::dismiss_drained_locked(News& news) {
  const auto tables = tables_in_use_locked();
  const auto in_use = [&](WorkerId worker) {
    return std::ranges::any_of(
        tables, [&](const auto& table) { return !table->assigned_to(worker).empty(); });
  };
  std::vector<WorkerId> drained;
  for (const auto& [worker, member] : members_) {
    if (member.state == WorkerState::kDraining && !in_use(worker)) drained.push_back(worker);
  }
  for (const WorkerId worker : drained) apply_locked(event::Drained{worker}, news);
}

}  // namespace pregate::coordinator
