#include "coordinator/membership/holdings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Range = protocol::ExpertRange;

const WorkerId kA(1), kB(2), kC(3);

PlacementShape shape_of(std::vector<uint32_t> layers, uint32_t num_experts) {
  PlacementShape shape;
  for (const uint32_t layer : layers) shape.layers.push_back(LayerIdx(layer));
  shape.num_experts = num_experts;
  return shape;
}

ExpertKey key(uint32_t layer, uint32_t expert) { return {LayerIdx(layer), ExpertId(expert)}; }

Members members_of(std::map<WorkerId, WorkerState> states) {
  Members members;
  for (const auto& [id, state] : states) {
    members[id].id = id;
    members[id].state = state;
  }
  return members;
}

std::vector<WorkerId> at(const Placement& table, uint32_t layer, uint32_t expert) {
  const auto workers = table.workers(LayerIdx(layer), ExpertId(expert));
  return {workers.begin(), workers.end()};
}

TEST(UnansweredExperts, AreAtSuspectsOnly) {
  const PlacementShape shape = shape_of({1, 3}, 2);
  Placement table(1, shape);
  table.add_replica(LayerIdx(1), ExpertId(0), kA);
  table.add_replica(LayerIdx(1), ExpertId(1), kB);
  table.add_replica(LayerIdx(3), ExpertId(0), kC);
  table.add_replica(LayerIdx(3), ExpertId(0), kB);
  const auto members = [](WorkerState b, WorkerState c) {
    return members_of({{kA, WorkerState::kReady}, {kB, b}, {kC, c}});
  };
  EXPECT_THAT(
      unanswered_experts(shape, table, members(WorkerState::kReady, WorkerState::kDraining)),
      IsEmpty());
  EXPECT_THAT(unanswered_experts(shape, table, members(WorkerState::kSuspect, WorkerState::kReady)),
              ElementsAre(key(1, 1)));
  EXPECT_THAT(
      unanswered_experts(shape, table, members(WorkerState::kSuspect, WorkerState::kSuspect)),
      ElementsAre(key(1, 1), key(3, 0)));
}

TEST(ExpertRanges, NeighboursOfALayerAreJoined) {
  const ExpertSet experts{key(1, 2), key(1, 0), key(1, 1), key(2, 3), key(1, 5)};
  EXPECT_THAT(to_ranges(experts),
              ElementsAre(Range{LayerIdx(1), ExpertId(0), 3}, Range{LayerIdx(1), ExpertId(5), 1},
                          Range{LayerIdx(2), ExpertId(3), 1}));
  EXPECT_THAT(to_ranges({}), IsEmpty());
}

TEST(ExpertRanges, ThereAndBackIsTheSame) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    ExpertSet experts;
    for (uint64_t i = random.next_below(40); i > 0; --i) {
      experts.insert(key(static_cast<uint32_t>(random.next_below(3)),
                         static_cast<uint32_t>(random.next_below(16))));
    }
    EXPECT_EQ(to_set(to_ranges(experts)), experts) << "seed " << seed;
  }
}

TEST(RoutingTable, OnlyWhatIsHeldIsAsked) {
  const auto shape = shape_of({0}, 2);
  Placement target(1, shape);
  target.add_replica(LayerIdx(0), ExpertId(0), kA);
  target.add_replica(LayerIdx(0), ExpertId(1), kB);
  const Holdings holdings{{kA, {key(0, 0)}}};
  const auto members = members_of({{kA, WorkerState::kReady}, {kB, WorkerState::kLoading}});
  const Placement table = routing_table(7, shape, target, holdings, members);
  EXPECT_EQ(table.version(), 7u);
  EXPECT_THAT(at(table, 0, 0), ElementsAre(kA));
  EXPECT_THAT(at(table, 0, 1), IsEmpty());
  EXPECT_EQ(missing_experts(shape, table), (ExpertSet{key(0, 1)}));
}

TEST(RoutingTable, OthersOnlyWhereTheTargetIsAbsentAndSuspectsLast) {
  const auto shape = shape_of({0}, 1);
  Placement target(1, shape);
  target.add_replica(LayerIdx(0), ExpertId(0), kC);
  const ExpertSet held{key(0, 0)};
  const Holdings holdings{{kA, held}, {kB, held}, {kC, held}};
  const auto order = [&](WorkerState a, WorkerState b, WorkerState c) {
    const auto members = members_of({{kA, a}, {kB, b}, {kC, c}});
    return at(routing_table(1, shape, target, holdings, members), 0, 0);
  };
  using enum WorkerState;
  EXPECT_THAT(order(kReady, kReady, kReady), ElementsAre(kC));
  EXPECT_THAT(order(kLoading, kDraining, kDraining), ElementsAre(kC));
  EXPECT_THAT(order(kReady, kReady, kSuspect), ElementsAre(kA, kB));
  EXPECT_THAT(order(kSuspect, kReady, kSuspect), ElementsAre(kB));
  EXPECT_THAT(order(kSuspect, kDead, kSuspect), ElementsAre(kA, kC));
  EXPECT_THAT(order(kJoining, kReady, kDead), ElementsAre(kB));
  EXPECT_THAT(order(kJoining, kDead, kDead), IsEmpty());
}

/// While an expert moves from B to C it has two holders all the time.
TEST(RoutingTable, OthersStayUntilTheTargetIsComplete) {
  const auto shape = shape_of({0}, 1);
  Placement target(1, shape);
  target.add_replica(LayerIdx(0), ExpertId(0), kA);
  target.add_replica(LayerIdx(0), ExpertId(0), kC);
  const ExpertSet held{key(0, 0)};
  using enum WorkerState;
  const auto members = members_of({{kA, kReady}, {kB, kReady}, {kC, kLoading}});
  const Holdings before{{kA, held}, {kB, held}, {kC, {}}};
  EXPECT_THAT(at(routing_table(1, shape, target, before, members), 0, 0), ElementsAre(kA, kB));
  const Holdings after{{kA, held}, {kB, held}, {kC, held}};
  EXPECT_THAT(at(routing_table(1, shape, target, after, members), 0, 0), ElementsAre(kA, kC));
  // One that does not answer is not waited for.
  const auto without = members_of({{kA, kReady}, {kB, kReady}, {kC, kSuspect}});
  EXPECT_THAT(at(routing_table(1, shape, target, before, without), 0, 0), ElementsAre(kA));
}

TEST(RoutingTable, ReplicasShareTheExperts) {
  const auto shape = shape_of({0, 2}, 4);
  Placement target(1, shape);
  Holdings holdings;
  for (const LayerIdx layer : shape.layers) {
    for (uint32_t expert = 0; expert < 4; ++expert) {
      for (const WorkerId worker : {kB, kA}) {
        target.add_replica(layer, ExpertId(expert), worker);
        holdings[worker].emplace(layer, ExpertId(expert));
      }
    }
  }
  const auto members = members_of({{kA, WorkerState::kReady}, {kB, WorkerState::kReady}});
  const Placement table = routing_table(1, shape, target, holdings, members);
  EXPECT_THAT(at(table, 0, 0), ElementsAre(kA, kB));
  EXPECT_THAT(at(table, 0, 1), ElementsAre(kB, kA));
  EXPECT_THAT(at(table, 2, 2), ElementsAre(kA, kB));
  EXPECT_THAT(at(table, 2, 3), ElementsAre(kB, kA));
}

TEST(RoutingTable, ALostReplicaDoesNotReorderTheOthers) {
  const auto shape = shape_of({0}, 6);
  Placement target(1, shape);
  Holdings holdings;
  for (uint32_t expert = 0; expert < 6; ++expert) {
    for (const WorkerId worker : {kA, kB, kC}) {
      target.add_replica(LayerIdx(0), ExpertId(expert), worker);
      holdings[worker].insert(key(0, expert));
    }
  }
  using enum WorkerState;
  const auto all = members_of({{kA, kReady}, {kB, kReady}, {kC, kReady}});
  const auto without = members_of({{kA, kReady}, {kB, kDead}, {kC, kReady}});
  const Placement before = routing_table(1, shape, target, holdings, all);
  const Placement after = routing_table(2, shape, target, holdings, without);
  for (uint32_t expert = 0; expert < 6; ++expert) {
    auto expected = at(before, 0, expert);
    std::erase(expected, kB);
    EXPECT_EQ(at(after, 0, expert), expected) << expert;
  }
}

TEST(RoutingTable, ExpertsThatDoNotExistAndStrangersAreLeftOut) {
  const auto shape = shape_of({1}, 2);
  const Holdings holdings{{kA, {key(0, 0), key(1, 0), key(1, 2), key(9, 0)}},
                          {WorkerId(99), {key(1, 1)}}};
  const auto members = members_of({{kA, WorkerState::kReady}});
  const Placement table = routing_table(1, shape, Placement(1, shape), holdings, members);
  EXPECT_THAT(table.assigned_to(kA), ElementsAre(Range{LayerIdx(1), ExpertId(0), 1}));
  EXPECT_THAT(at(table, 1, 1), IsEmpty());
}

TEST(MissingExperts, DenseLayersMissNothing) {
  const auto shape = shape_of({1, 3}, 2);
  EXPECT_THAT(missing_experts(shape, Placement(1, shape)),
              UnorderedElementsAre(key(1, 0), key(1, 1), key(3, 0), key(3, 1)));
}

TEST(ExpertsByReplicas, CountsThoseWithoutToo) {
  const auto shape = shape_of({1, 3}, 2);
  Placement table(1, shape);
  table.add_replica(LayerIdx(1), ExpertId(0), kA);
  table.add_replica(LayerIdx(3), ExpertId(1), kA);
  table.add_replica(LayerIdx(3), ExpertId(1), kB);
  EXPECT_THAT(experts_by_replicas(shape, table), ElementsAre(2, 1, 1));
}

class Assignment : public ::testing::Test {
 protected:
  Assignment() : shape_(shape_of({0}, 8)), target_(1, shape_) {}

  void aim_at(std::initializer_list<uint32_t> experts) {
    for (const uint32_t expert : experts) target_.add_replica(LayerIdx(0), ExpertId(expert), kA);
  }
  void use_table(WorkerId worker, std::initializer_list<uint32_t> experts) {
    auto table = std::make_shared<Placement>(1, shape_);
    for (const uint32_t expert : experts) table->add_replica(LayerIdx(0), ExpertId(expert), worker);
    tables_.push_back(table);
  }
  /// The experts, in the order of loading.
  std::vector<uint32_t> assigned(const ExpertSet& held, const ExpertSet& missing = {}) const {
    std::vector<uint32_t> experts;
    for (const Range& range : assignment_for(kA, target_, held, tables_, missing)) {
      for (uint32_t i = 0; i < range.count; ++i) experts.push_back(range.first.value + i);
    }
    return experts;
  }

  const PlacementShape shape_;
  Placement target_;
  std::vector<std::shared_ptr<const Placement>> tables_;
};

TEST_F(Assignment, WhatTheTargetGivesIsLoaded) {
  aim_at({1, 2, 3});
  EXPECT_THAT(assigned({}), ElementsAre(1, 2, 3));
}

TEST_F(Assignment, WhatATableInUseSendsIsKept) {
  aim_at({1});
  use_table(kA, {4});
  use_table(kA, {5});
  use_table(kB, {6});
  EXPECT_THAT(assigned({key(0, 4), key(0, 5), key(0, 6), key(0, 7)}), ElementsAre(4, 5, 1));
}

TEST_F(Assignment, WhatATableSendsButIsNotHeldIsNotLoaded) {
  aim_at({1});
  use_table(kA, {4});
  EXPECT_THAT(assigned({}), ElementsAre(1));
}

TEST_F(Assignment, MissingComesFirstThenHeldThenTheRest) {
  aim_at({0, 1, 2, 3, 4, 5});
  EXPECT_THAT(assigned({key(0, 2), key(0, 3)}, {key(0, 5), key(0, 1), key(0, 7)}),
              ElementsAre(1, 5, 2, 3, 0, 4));
}

}  // namespace
}  // namespace pregate::coordinator
