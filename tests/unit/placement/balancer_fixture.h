// What the tests of the balancer share.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "coordinator/placement/balancer.h"
#include "protocol/expert_ranges.h"

namespace pregate::coordinator {

/// Workers, what they hold, and time.
class BalancerFixture : public ::testing::Test {
 protected:
  static constexpr uint32_t kNumExperts = 12;

  void worker(uint32_t id, Presence presence, size_t max_experts = 1000) {
    workers_[WorkerId(id)] = {{WorkerId(id), 1000, max_experts}, presence};
    if (presence == Presence::kGone) held_.erase(WorkerId(id));
  }
  void workers(std::initializer_list<uint32_t> ids) {
    for (const uint32_t id : ids) worker(id, Presence::kHere);
  }

  /// Time passes, then the cluster looks.
  std::vector<BalancerEffect> after(Duration time) {
    now_ += time;
    BalancerInput input{.shape = shape_, .workers = {}};
    for (auto& [id, known] : workers_) {
      known.is_full = held_[id].size() >= known.room.max_experts;
      input.workers.push_back(known);
    }
    input.holds = [this](WorkerId worker, LayerIdx layer, ExpertId expert) {
      return held_[worker].contains({layer, expert});
    };
    input.loads = [this] { return loads_; };
    return balance(state_, options_, input, now_);
  }
  /// The first target, fully loaded, with nothing left to do.
  void settle() {
    after(options_.first_settle);
    after(options_.first_settle);
    load();
    after(options_.settle);
    after(std::chrono::seconds(1));
    ASSERT_FALSE(state_.moving);
  }
  /// Workers that answer come to hold what they are to, and drop the rest.
  void load() {
    for (const auto& [id, known] : workers_) {
      if (known.presence == Presence::kHere && !broken_.contains(id)) held_[id] = wanted(id);
    }
  }
  std::set<std::pair<LayerIdx, ExpertId>> wanted(WorkerId worker) const {
    std::set<std::pair<LayerIdx, ExpertId>> experts;
    protocol::for_each_expert(
        state_.target->assigned_to(worker),
        [&](LayerIdx layer, ExpertId expert) { experts.emplace(layer, expert); });
    return experts;
  }
  /// As the first placement has them, but each worker's experts with the next one.
  Placement passed_on() const {
    Placement placement(0, shape_);
    for (const LayerIdx layer : shape_.layers) {
      for (ExpertId expert(0); expert.value < kNumExperts; ++expert.value) {
        for (const WorkerId worker : state_.target->workers(layer, expert)) {
          const auto next = std::next(workers_.find(worker));
          placement.add_replica(layer, expert,
                                next == workers_.end() ? workers_.begin()->first : next->first);
        }
      }
    }
    return placement;
  }
  size_t num_wanted(uint32_t worker) const { return wanted(WorkerId(worker)).size(); }
  size_t fewest_replicas() const {
    size_t fewest = SIZE_MAX;
    for (const LayerIdx layer : shape_.layers) {
      for (uint32_t i = 0; i < kNumExperts; ++i) {
        fewest = std::min(fewest, state_.target->workers(layer, ExpertId(i)).size());
      }
    }
    return fewest;
  }
  /// One hot expert, in both layers.
  void heat(uint32_t expert) {
    loads_.assign(2, std::vector<double>(kNumExperts, 100));
    for (auto& layer : loads_) layer[expert] = 900;
  }

  static std::vector<BalanceReason> retargets(const std::vector<BalancerEffect>& effects) {
    std::vector<BalanceReason> reasons;
    for (const auto& item : effects) {
      if (const auto* retarget = std::get_if<effect::Retarget>(&item)) {
        reasons.push_back(retarget->reason);
      }
    }
    return reasons;
  }
  static std::vector<effect::RebalanceEnded> endings(const std::vector<BalancerEffect>& effects) {
    std::vector<effect::RebalanceEnded> endings;
    for (const auto& item : effects) {
      if (const auto* ended = std::get_if<effect::RebalanceEnded>(&item)) endings.push_back(*ended);
    }
    return endings;
  }

  const PlacementShape shape_{{LayerIdx(1), LayerIdx(3)}, kNumExperts};
  BalancerOptions options_;
  BalancerState state_;
  TimePoint now_{std::chrono::seconds(1000)};
  std::map<WorkerId, BalancerWorker> workers_;
  std::map<WorkerId, std::set<std::pair<LayerIdx, ExpertId>>> held_;
  std::set<WorkerId> broken_;  // Load nothing.
  ExpertLoads loads_;
};

}  // namespace pregate::coordinator
