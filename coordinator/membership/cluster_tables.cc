// What follows from who is there and holds what: the table, and what each worker is to hold.
#include <algorithm>

#include "base/log.h"
#include "coordinator/membership/cluster.h"

namespace pregate::coordinator {

void Cluster::refresh_locked(News& news) {
  // Dismissing a drained worker changes the members once more.
  while (std::exchange(dirty_, false)) {
    publish_table_locked(news);
    note_availability_locked();
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
  missing_ = missing_experts(options_.shape, *table_);
  probe_.table_changed(table_->version(), experts_by_replicas(options_.shape, *table_));
  news.table_changed = true;
}

/// The table stays the same when the only holder of an expert falls silent.
void Cluster::note_availability_locked() {
  const bool was_whole = waited_for_.empty();
  waited_for_ = unanswered_experts(options_.shape, *table_, members_);
  probe_.experts_unanswered(waited_for_.size());
  waited_for_.insert(missing_.begin(), missing_.end());
  if (was_whole && !waited_for_.empty() && !stopping_) {
    spdlog::error("{}", health_locked().error().message);
  }
  if (!was_whole && waited_for_.empty()) spdlog::info("every expert is held by a live worker");
  changed_.notify_all();
}

std::vector<std::shared_ptr<const Placement>> Cluster::tables_in_use_locked() const {
  // The present one first.
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
    Order order = order_locked(worker, tables);
    // What is missing does not wait for requests under way: those are sent again.
    const bool too_much = order.experts.size() > room_of(member.capacity);
    if (too_much && !waited_for_.empty()) order = order_locked(worker, std::span(tables).first(1));
    const bool hurry = order.urgent && remote.limited;
    if (remote.assignment > 0 && order.experts == remote.assigned && !hurry) continue;
    const bool has_to_load = order.num_to_load > 0;
    give_locked(worker, remote, std::move(order));
    if (has_to_load) apply_locked(event::Assigned{worker}, news);
  }
}

Cluster::Order Cluster::order_locked(
    WorkerId worker, std::span<const std::shared_ptr<const Placement>> tables) const {
  const ExpertSet& held = remotes_.at(worker).held;
  Order order{.ranges = assignment_for(worker, target_locked(), held, tables, waited_for_)};
  order.experts = to_set(order.ranges);
  for (const ExpertKey& expert : order.experts) {
    if (held.contains(expert)) continue;
    ++order.num_to_load;
    order.urgent |= waited_for_.contains(expert);
  }
  return order;
}

void Cluster::give_locked(WorkerId worker, Remote& remote, Order order) {
  remote.assignment = ++last_assignment_;
  remote.limited = !order.urgent && order.num_to_load > 0;
  remote.assigned = std::move(order.experts);
  remote.ranges = std::move(order.ranges);
  ExpertSet dropped;
  std::ranges::set_difference(remote.held, remote.assigned, std::inserter(dropped, dropped.end()));
  for (const ExpertKey& expert : dropped) remote.held.erase(expert);
  remote.ordered_out.merge(dropped);
  send_assignment_locked(worker, remote);
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
