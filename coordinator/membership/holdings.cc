#include "coordinator/membership/holdings.h"

#include <algorithm>
#include <functional>

#include "protocol/expert_ranges.h"

namespace pregate::coordinator {
namespace {

enum class Trust { kNone, kSuspect, kAlive };

Trust trust_of(WorkerId worker, const Members& members) {
  const auto found = members.find(worker);
  if (found == members.end()) return Trust::kNone;
  switch (found->second.state) {
    case WorkerState::kLoading:
    case WorkerState::kReady:
    case WorkerState::kDraining:
      return Trust::kAlive;
    case WorkerState::kSuspect:
      return Trust::kSuspect;
    case WorkerState::kJoining:
    case WorkerState::kDead:
      return Trust::kNone;
  }
  return Trust::kNone;
}

bool contains(std::span<const WorkerId> workers, WorkerId worker) {
  return std::find(workers.begin(), workers.end(), worker) != workers.end();
}

bool belongs_to(const PlacementShape& shape, const ExpertKey& key) {
  return key.second.value < shape.num_experts &&
         std::binary_search(shape.layers.begin(), shape.layers.end(), key.first);
}

/// What can be asked for: the experts of each worker that may answer.
using Holders = std::map<WorkerId, const ExpertSet*>;

Holders holders_with(Trust trust, const Holdings& holdings, const Members& members) {
  Holders holders;
  for (const auto& [worker, experts] : holdings) {
    if (trust_of(worker, members) == trust) holders.emplace(worker, &experts);
  }
  return holders;
}

/// The replicas of the target that are there. The rotation counts those that are not, so that the
/// others keep their order when one comes or goes.
void add_target_replicas(const PlacementShape& shape, const Placement& target,
                         const Holders& holders, Placement& table) {
  std::vector<WorkerId> replicas;
  for (const LayerIdx layer : shape.layers) {
    for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
      const auto wanted = target.workers(layer, expert);
      if (wanted.empty()) continue;
      replicas.assign(wanted.begin(), wanted.end());
      std::sort(replicas.begin(), replicas.end());
      const auto first = replicas.begin() + expert.value % replicas.size();
      std::rotate(replicas.begin(), first, replicas.end());
      for (const WorkerId worker : replicas) {
        const auto holder = holders.find(worker);
        if (holder == holders.end() || !holder->second->contains({layer, expert})) continue;
        table.add_replica(layer, expert, worker);
      }
    }
  }
}

/// Whether every worker of the target that can answer holds the expert already.
bool is_settled(const ExpertKey& key, const Placement& target, const Holders& holders,
                const Members& members) {
  for (const WorkerId worker : target.workers(key.first, key.second)) {
    if (trust_of(worker, members) != Trust::kAlive) continue;
    const auto holder = holders.find(worker);
    if (holder == holders.end() || !holder->second->contains(key)) return false;
  }
  return true;
}

/// Those that hold an expert and are not in `table` for it, if `wanted`.
void add_others(const PlacementShape& shape, const Holders& holders, Placement& table,
                const std::function<bool(const ExpertKey&)>& wanted) {
  for (const auto& [worker, experts] : holders) {
    for (const ExpertKey& key : *experts) {
      if (!belongs_to(shape, key) || contains(table.workers(key.first, key.second), worker)) {
        continue;
      }
      if (wanted(key)) table.add_replica(key.first, key.second, worker);
    }
  }
}

void append(std::vector<protocol::ExpertRange>& ranges, const ExpertSet& experts) {
  const auto more = to_ranges(experts);
  ranges.insert(ranges.end(), more.begin(), more.end());
}

}  // namespace

ExpertSet to_set(std::span<const protocol::ExpertRange> ranges) {
  ExpertSet experts;
  protocol::for_each_expert(
      ranges, [&](LayerIdx layer, ExpertId expert) { experts.emplace(layer, expert); });
  return experts;
}

std::vector<protocol::ExpertRange> to_ranges(const ExpertSet& experts) {
  std::vector<protocol::ExpertRange> ranges;
  for (const auto& [layer, expert] : experts) protocol::append_expert(ranges, layer, expert);
  return ranges;
}

Placement routing_table(uint64_t version, const PlacementShape& shape, const Placement& target,
                        const Holdings& holdings, const Members& members) {
  Placement table(version, shape);
  const Holders alive = holders_with(Trust::kAlive, holdings, members);
  add_target_replicas(shape, target, alive, table);
  const Placement of_target = table;
  add_others(shape, alive, table, [&](const ExpertKey& key) {
    return of_target.workers(key.first, key.second).empty() ||
           !is_settled(key, target, alive, members);
  });
  const Placement of_alive = table;
  add_others(shape, holders_with(Trust::kSuspect, holdings, members), table,
             [&](const ExpertKey& key) { return of_alive.workers(key.first, key.second).empty(); });
  return table;
}

ExpertSet missing_experts(const PlacementShape& shape, const Placement& table) {
  ExpertSet missing;
  for (const LayerIdx layer : shape.layers) {
    for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
      if (table.workers(layer, expert).empty()) missing.emplace(layer, expert);
    }
  }
  return missing;
}

std::vector<size_t> experts_by_replicas(const PlacementShape& shape, const Placement& table) {
  std::vector<size_t> counts(1);
  for (const LayerIdx layer : shape.layers) {
    for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
      const size_t replicas = table.workers(layer, expert).size();
      counts.resize(std::max(counts.size(), replicas + 1));
      ++counts[replicas];
    }
  }
  return counts;
}

ExpertSet unanswered_experts(const PlacementShape& shape, const Placement& table,
                             const Members& members) {
  const auto is_suspect = [&](WorkerId worker) {
    return trust_of(worker, members) == Trust::kSuspect;
  };
  ExpertSet unanswered;
  for (const LayerIdx layer : shape.layers) {
    for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
      const auto workers = table.workers(layer, expert);
      if (!workers.empty() && std::ranges::all_of(workers, is_suspect)) {
        unanswered.emplace(layer, expert);
      }
    }
  }
  return unanswered;
}

std::vector<protocol::ExpertRange> assignment_for(
    WorkerId worker, const Placement& target, const ExpertSet& held,
    std::span<const std::shared_ptr<const Placement>> tables, const ExpertSet& waited_for) {
  ExpertSet wanted = to_set(target.assigned_to(worker));
  for (const ExpertKey& key : held) {
    for (const auto& table : tables) {
      if (contains(table->workers(key.first, key.second), worker)) wanted.insert(key);
    }
  }
  ExpertSet first, kept, rest;
  for (const ExpertKey& key : wanted) {
    (waited_for.contains(key) ? first : held.contains(key) ? kept : rest).insert(key);
  }
  std::vector<protocol::ExpertRange> ranges;
  append(ranges, first);
  append(ranges, kept);
  append(ranges, rest);
  return ranges;
}

}  // namespace pregate::coordinator
