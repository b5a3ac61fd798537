#include "coordinator/placement/plan.h"

#include <algorithm>
#include <ctime>
#include <functional>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr size_t kPlenty = 1'000'000;
constexpr uint64_t kSeeds = 200;

PlacementShape shape_of(uint32_t num_layers, uint32_t num_experts) {
  PlacementShape shape;
  for (uint32_t i = 0; i < num_layers; ++i) shape.layers.push_back(LayerIdx(2 * i));
  shape.num_experts = num_experts;
  return shape;
}

PlacementProblem alike(uint32_t num_layers, uint32_t num_experts, uint32_t num_workers,
                       size_t max_experts = kPlenty) {
  PlacementProblem problem;
  problem.shape = shape_of(num_layers, num_experts);
  for (uint32_t i = 0; i < num_workers; ++i) {
    problem.workers.push_back({WorkerId(i + 1), 1000, max_experts});
  }
  return problem;
}

/// A few experts get most of the rows.
ExpertLoads skewed_loads(const PlacementShape& shape, Random& random) {
  ExpertLoads loads(shape.layers.size());
  for (auto& layer : loads) {
    for (uint32_t i = 0; i < shape.num_experts; ++i) {
      layer.push_back(1000 / (1.0 + static_cast<double>(random.next_below(30))));
    }
  }
  return loads;
}

/// Anything that may come, with too little memory too.
PlacementProblem random_problem(uint64_t seed) {
  Random random(seed);
  const auto below = [&](uint64_t bound) {
    return static_cast<uint32_t>(random.next_below(bound));
  };
  PlacementProblem problem = alike(1 + below(5), 1 + below(24), 1 + below(7));
  const size_t num_experts = problem.shape.layers.size() * problem.shape.num_experts;
  for (WorkerRoom& worker : problem.workers) {
    worker.rows_per_second = below(8) == 0 ? 0 : 100 * (1 + below(8));
    worker.max_experts = below(3) == 0 ? kPlenty : below(static_cast<uint32_t>(num_experts) + 2);
  }
  if (below(4) > 0) problem.loads = skewed_loads(problem.shape, random);
  problem.replicas = 1 + below(3);
  problem.extra_replicas = below(2) == 0 ? 0 : 0.1 * below(10);
  return problem;
}

struct Counts {
  std::map<WorkerId, size_t> total;
  std::map<WorkerId, std::map<LayerIdx, size_t>> of_layer;
  size_t fewest_replicas = SIZE_MAX;
  size_t most_replicas = 0;
  size_t all = 0;
};

/// Also checks that no worker has an expert twice.
Counts count(const Placement& placement, const PlacementProblem& problem) {
  Counts counts;
  for (const LayerIdx layer : problem.shape.layers) {
    for (ExpertId expert(0); expert.value < problem.shape.num_experts; ++expert.value) {
      const auto workers = placement.workers(layer, expert);
      EXPECT_EQ(std::set<WorkerId>(workers.begin(), workers.end()).size(), workers.size());
      for (const WorkerId worker : workers) {
        ++counts.total[worker];
        ++counts.of_layer[worker][layer];
      }
      counts.fewest_replicas = std::min(counts.fewest_replicas, workers.size());
      counts.most_replicas = std::max(counts.most_replicas, workers.size());
      counts.all += workers.size();
    }
  }
  return counts;
}

size_t num_items(const PlacementProblem& problem) {
  return problem.shape.layers.size() * problem.shape.num_experts;
}

size_t useful_room(const PlacementProblem& problem) {
  size_t room = 0;
  for (const auto& worker : problem.workers) {
    room += std::min(worker.max_experts, num_items(problem));
  }
  return room;
}

size_t replicas_possible(const PlacementProblem& problem) {
  size_t workers = 0;
  for (const auto& worker : problem.workers) workers += worker.max_experts > 0 ? 1 : 0;
  return std::min({problem.replicas, workers, useful_room(problem) / num_items(problem)});
}

void expect_within_memory(const Counts& counts, const PlacementProblem& problem) {
  for (const WorkerRoom& worker : problem.workers) {
    const auto found = counts.total.find(worker.id);
    if (found != counts.total.end()) {
      EXPECT_LE(found->second, worker.max_experts);
    }
  }
}

std::vector<std::vector<WorkerId>> rows_of(const Placement& placement,
                                           const PlacementShape& shape) {
  std::vector<std::vector<WorkerId>> rows;
  for (const LayerIdx layer : shape.layers) {
    for (ExpertId expert(0); expert.value < shape.num_experts; ++expert.value) {
      const auto workers = placement.workers(layer, expert);
      rows.emplace_back(workers.begin(), workers.end());
    }
  }
  return rows;
}

TEST(PlanPlacement, EveryExpertHasItsReplicasAsFarAsMemoryGoes) {
  for (uint64_t seed = 0; seed < 10 * kSeeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    const PlacementProblem problem = random_problem(seed);
    const PlacementPlan plan = plan_placement(1, problem);
    const Counts counts = count(plan.placement, problem);
    expect_within_memory(counts, problem);
    EXPECT_GE(counts.fewest_replicas, replicas_possible(problem));
    const size_t room = useful_room(problem);
    EXPECT_EQ(plan.homeless.size(), num_items(problem) - std::min(room, num_items(problem)));
    if (problem.extra_replicas == 0) {
      EXPECT_LE(counts.most_replicas, problem.replicas);
    }
    if (HasFailure()) return;
  }
}

TEST(PlanPlacement, IsDeterministic) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const PlacementProblem problem = random_problem(seed);
    EXPECT_EQ(rows_of(plan_placement(1, problem).placement, problem.shape),
              rows_of(plan_placement(1, problem).placement, problem.shape));
  }
}

TEST(PlanPlacement, AllAlikeGivesTheEvenPlacement) {
  for (const uint32_t num_workers : {1u, 2u, 3u, 5u, 7u, 20u}) {
    for (const uint32_t num_experts : {8u, 13u, 60u}) {
      PlacementProblem problem = alike(11, num_experts, num_workers);
      problem.workers[0].rows_per_second = 1200;  // Noise.
      std::vector<WorkerId> ids;
      for (const auto& worker : problem.workers) ids.push_back(worker.id);
      EXPECT_EQ(rows_of(plan_placement(1, problem).placement, problem.shape),
                rows_of(even_placement(1, problem.shape, ids), problem.shape))
          << num_workers << " workers, " << num_experts << " experts";
    }
  }
}

TEST(PlanPlacement, EqualsDifferByAtMostOne) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const auto below = [&](uint64_t bound) {
      return static_cast<uint32_t>(random.next_below(bound));
    };
    PlacementProblem problem = alike(1 + below(9), 1 + below(40), 1 + below(12));
    problem.replicas = 1 + below(3);
    const size_t share = num_items(problem) * problem.replicas / problem.workers.size();
    for (auto& worker : problem.workers) worker.max_experts = share + 1 + seed % 2 * kPlenty;
    const Counts counts = count(plan_placement(1, problem).placement, problem);
    const auto expect_even = [&](const auto& number_at) {
      size_t least = SIZE_MAX, most = 0;
      for (const auto& worker : problem.workers) {
        least = std::min(least, number_at(worker.id));
        most = std::max(most, number_at(worker.id));
      }
      EXPECT_LE(most, least + 1);
    };
    const auto at = [](const auto& map, const auto& key) {
      const auto found = map.find(key);
      return found == map.end() ? size_t{0} : found->second;
    };
    expect_even([&](WorkerId id) { return at(counts.total, id); });
    for (const LayerIdx layer : problem.shape.layers) {
      expect_even([&](WorkerId id) {
        return counts.of_layer.contains(id) ? at(counts.of_layer.at(id), layer) : 0;
      });
    }
    if (HasFailure()) return;
  }
}

TEST(PlanPlacement, FasterWorkersGetProportionallyMore) {
  PlacementProblem problem = alike(6, 60, 3);
  problem.workers[1].rows_per_second = 2000;
  problem.workers[2].rows_per_second = 3000;
  const Counts counts = count(plan_placement(1, problem).placement, problem);
  EXPECT_EQ(counts.total.at(WorkerId(1)), 60u);
  EXPECT_EQ(counts.total.at(WorkerId(2)), 120u);
  EXPECT_EQ(counts.total.at(WorkerId(3)), 180u);
}

TEST(PlanPlacement, ReplicasSpreadSoThatManyTakeOver) {
  PlacementProblem problem = alike(4, 24, 4);
  problem.replicas = 2;
  const Placement placement = plan_placement(1, problem).placement;
  std::map<WorkerId, size_t> beside;  // of worker 1's experts
  for (const auto& workers : rows_of(placement, problem.shape)) {
    if (std::find(workers.begin(), workers.end(), WorkerId(1)) == workers.end()) continue;
    for (const WorkerId worker : workers) ++beside[worker];
  }
  for (uint32_t other = 2; other <= 4; ++other) EXPECT_GE(beside[WorkerId(other)], 12u);
}

TEST(PlanPlacement, TheBusiestGetTheExtraReplicas) {
  PlacementProblem problem = alike(2, 8, 4);
  problem.extra_replicas = 0.25;
  problem.loads = {{1, 1, 9, 1, 1, 1, 5, 1}, {20, 1, 1, 1, 1, 1, 1, 1}};
  const Placement placement = plan_placement(1, problem).placement;
  EXPECT_THAT(placement.workers(LayerIdx(0), ExpertId(2)), SizeIs(2));
  EXPECT_THAT(placement.workers(LayerIdx(0), ExpertId(6)), SizeIs(2));
  EXPECT_THAT(placement.workers(LayerIdx(2), ExpertId(0)), SizeIs(3));
  EXPECT_EQ(count(placement, problem).all, 20u);
}

TEST(PlanPlacement, WithoutWorkersAllIsHomeless) {
  const PlacementProblem problem = alike(2, 3, 0);
  EXPECT_THAT(plan_placement(1, problem).homeless, SizeIs(6));
  EXPECT_THAT(repair_placement(1, problem, Placement(1, problem.shape)).homeless, SizeIs(6));
  EXPECT_EQ(better_placement(1, problem, Placement(1, problem.shape), 0), std::nullopt);
  EXPECT_EQ(imbalance(Placement(1, problem.shape), problem), 1);
}

TEST(PlanPlacement, NonsenseLoadsAreNoLoads) {
  PlacementProblem problem = alike(3, 4, 2);
  problem.loads = {{std::nan(""), -1, INFINITY, 0}, {1, 2}};
  EXPECT_THAT(plan_placement(1, problem).homeless, IsEmpty());
}

/// The least that the busiest worker's time can be, by trying everything; one replica of each.
double best_imbalance(const PlacementProblem& problem, size_t expert, Placement& placement,
                      std::vector<WorkerId>& at) {
  if (expert == at.size()) {
    Placement full(1, problem.shape);
    for (uint32_t i = 0; i < at.size(); ++i) full.add_replica(LayerIdx(0), ExpertId(i), at[i]);
    return imbalance(full, problem);
  }
  double best = INFINITY;
  for (const auto& worker : problem.workers) {
    at[expert] = worker.id;
    best = std::min(best, best_imbalance(problem, expert + 1, placement, at));
  }
  return best;
}

TEST(PlanPlacement, IsCloseToTheBest) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Random random(seed);
    const auto below = [&](uint64_t bound) {
      return static_cast<uint32_t>(random.next_below(bound));
    };
    PlacementProblem problem = alike(1, 2 + below(5), 2 + below(2));
    problem.loads = skewed_loads(problem.shape, random);
    if (seed % 2 == 1) {
      for (auto& worker : problem.workers) worker.rows_per_second = 100 * (1 + below(5));
    }
    Placement scratch(1, problem.shape);
    std::vector<WorkerId> at(problem.shape.num_experts);
    const double best = best_imbalance(problem, 0, scratch, at);
    const double ours = imbalance(plan_placement(1, problem).placement, problem);
    EXPECT_LE(ours, best * 1.2) << "seed " << seed;
  }
}

TEST(PlanPlacement, IsCloseToWhatTheHeaviestExpertAllows) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    PlacementProblem problem = alike(3, 16 + static_cast<uint32_t>(random.next_below(48)),
                                     2 + static_cast<uint32_t>(random.next_below(10)));
    problem.loads = skewed_loads(problem.shape, random);
    double bound = 0;  // No placement is better than this.
    for (const auto& layer : problem.loads) {
      double sum = 0;
      for (const double load : layer) sum += load;
      const double heaviest = *std::max_element(layer.begin(), layer.end()) / sum;
      bound += std::max(1.0, heaviest * static_cast<double>(problem.workers.size())) / 3;
    }
    EXPECT_LE(imbalance(plan_placement(1, problem).placement, problem), bound * 1.12)
        << "seed " << seed;
  }
}

TEST(RepairPlacement, ChangesNothingThatStands) {
  for (uint64_t seed = 0; seed < 5 * kSeeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    PlacementProblem problem = random_problem(seed);
    problem.extra_replicas = 0;
    const Placement before = plan_placement(1, problem).placement;
    Random random(seed);
    if (random.next_below(4) > 0) {
      problem.workers.erase(problem.workers.begin() +
                            static_cast<ptrdiff_t>(random.next_below(problem.workers.size())));
    }
    const PlacementPlan after = repair_placement(2, problem, before);
    const Counts counts = count(after.placement, problem);
    expect_within_memory(counts, problem);
    EXPECT_EQ(after.homeless.size(),
              num_items(problem) - std::min(useful_room(problem), num_items(problem)));
    EXPECT_EQ(after.placement.version(), 2u);
    Placement standing(1, problem.shape);
    for (const LayerIdx layer : problem.shape.layers) {
      for (ExpertId expert(0); expert.value < problem.shape.num_experts; ++expert.value) {
        for (const WorkerId worker : before.workers(layer, expert)) {
          const bool alive = std::any_of(problem.workers.begin(), problem.workers.end(),
                                         [&](const auto& w) { return w.id == worker; });
          if (alive) standing.add_replica(layer, expert, worker);
        }
      }
    }
    // Only where memory is short may one of several replicas give way.
    const size_t dropped = num_moves(after.placement, standing);
    if (replicas_possible(problem) == problem.replicas) {
      EXPECT_EQ(dropped, 0u);
    }
    EXPECT_EQ(counts.all,
              count(standing, problem).all - dropped + num_moves(standing, after.placement));
    if (HasFailure()) return;
  }
}

TEST(RepairPlacement, OfAWholePlacementIsThatPlacement) {
  PlacementProblem problem = alike(3, 10, 4);
  problem.replicas = 2;
  const Placement before = plan_placement(1, problem).placement;
  EXPECT_EQ(rows_of(repair_placement(2, problem, before).placement, problem.shape),
            rows_of(before, problem.shape));
}

TEST(RepairPlacement, TheLastHomeComesBeforeTheSecondReplica) {
  PlacementProblem problem = alike(1, 4, 2, 2);
  problem.replicas = 2;
  Placement before(1, problem.shape);
  for (const WorkerId worker : {WorkerId(1), WorkerId(2)}) {
    before.add_replica(LayerIdx(0), ExpertId(0), worker);
    before.add_replica(LayerIdx(0), ExpertId(1), worker);
  }
  const PlacementPlan plan = repair_placement(2, problem, before);
  EXPECT_THAT(plan.homeless, IsEmpty());
  EXPECT_EQ(count(plan.placement, problem).fewest_replicas, 1u);
}

TEST(Imbalance, IsTheBusiestShareOverItsDue) {
  PlacementProblem problem = alike(1, 2, 2);
  problem.loads = {{3, 1}};
  Placement placement(1, problem.shape);
  placement.add_replica(LayerIdx(0), ExpertId(0), WorkerId(1));
  placement.add_replica(LayerIdx(0), ExpertId(1), WorkerId(2));
  EXPECT_DOUBLE_EQ(imbalance(placement, problem), 1.5);
  problem.workers[0].rows_per_second = 3000;
  EXPECT_DOUBLE_EQ(imbalance(placement, problem), 1);
  problem.workers[0].rows_per_second = 1000;
  placement.add_replica(LayerIdx(0), ExpertId(0), WorkerId(2));
  EXPECT_DOUBLE_EQ(imbalance(placement, problem), 1.25);
}

TEST(NumMoves, CountsWhatIsNew) {
  const PlacementShape shape = shape_of(1, 2);
  Placement from(1, shape), to(2, shape);
  from.add_replica(LayerIdx(0), ExpertId(0), WorkerId(1));
  from.add_replica(LayerIdx(0), ExpertId(1), WorkerId(1));
  to.add_replica(LayerIdx(0), ExpertId(0), WorkerId(1));
  to.add_replica(LayerIdx(0), ExpertId(1), WorkerId(2));
  to.add_replica(LayerIdx(0), ExpertId(1), WorkerId(1));
  EXPECT_EQ(num_moves(from, to), 1u);
  EXPECT_EQ(num_moves(to, from), 0u);
}

TEST(BetterPlacement, LeavesAGoodOneAlone) {
  PlacementProblem problem = alike(4, 30, 4);
  const Placement current = plan_placement(1, problem).placement;
  EXPECT_EQ(better_placement(2, problem, current, 0.05), std::nullopt);
  EXPECT_EQ(better_placement(2, problem, current, 0), std::nullopt);
  for (auto& worker : problem.workers) {
    worker.rows_per_second += 40 * static_cast<double>(worker.id.value);  // Noise.
  }
  EXPECT_EQ(better_placement(2, problem, current, 0.05), std::nullopt);
}

TEST(BetterPlacement, MovesForAJoiningWorkerOnlyWhatItGets) {
  for (const uint32_t num_workers : {1u, 2u, 3u, 4u, 7u}) {
    const PlacementProblem before = alike(6, 60, num_workers);
    const PlacementProblem after = alike(6, 60, num_workers + 1);
    const Placement current = plan_placement(1, before).placement;
    const auto better = better_placement(2, after, current, 0.05);
    ASSERT_TRUE(better) << num_workers;
    const size_t got = count(*better, after).total.at(WorkerId(num_workers + 1));
    EXPECT_EQ(num_moves(current, *better), got);
    EXPECT_LE(got, 360 / (num_workers + 1));
    EXPECT_GE(got, 330 / (num_workers + 1));
    EXPECT_LE(imbalance(*better, after), 1.08);
  }
}

TEST(BetterPlacement, AJoiningWorkerGetsSomethingThoughNoLayerGainsByIt) {
  const PlacementProblem before = alike(20, 8, 4);
  const PlacementProblem after = alike(20, 8, 5);
  const Placement current = plan_placement(1, before).placement;
  const auto better = better_placement(2, after, current, 0.05);
  ASSERT_TRUE(better);
  EXPECT_GE(count(*better, after).total.at(WorkerId(5)), 28u);
  EXPECT_LE(imbalance(*better, after), imbalance(current, after));
}

TEST(BetterPlacement, ReplicatesWhatBecameBusy) {
  PlacementProblem problem = alike(1, 16, 4);
  problem.extra_replicas = 0.125;
  Placement current = plan_placement(1, problem).placement;
  problem.loads = {std::vector<double>(16, 1)};
  problem.loads[0][9] = 12;
  const auto better = better_placement(2, problem, current, 0.05);
  ASSERT_TRUE(better);
  EXPECT_THAT(better->workers(LayerIdx(0), ExpertId(9)), SizeIs(3));
  EXPECT_EQ(count(*better, problem).all, 18u);
  EXPECT_LT(imbalance(*better, problem), imbalance(current, problem) - 0.5);
}

TEST(BetterPlacement, MovesNoMoreThanTheGainIsWorth) {
  for (uint64_t seed = 0; seed < 5 * kSeeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    PlacementProblem problem = random_problem(seed);
    const Placement placed = plan_placement(1, problem).placement;
    Random random(seed + 1);
    problem.loads = skewed_loads(problem.shape, random);
    const double min_gain = 0.01 * static_cast<double>(1 + random.next_below(20));
    const Placement current = repair_placement(2, problem, placed).placement;
    const auto better = better_placement(3, problem, current, min_gain);
    if (!better) continue;
    const Counts counts = count(*better, problem);
    expect_within_memory(counts, problem);
    EXPECT_GE(counts.fewest_replicas, std::min<size_t>(1, replicas_possible(problem)));
    // The overall share is at most the number of workers, and no less than what is due.
    const double gain = imbalance(current, problem) - imbalance(*better, problem);
    const double tenths = static_cast<double>(num_moves(current, *better)) * 10 /
                          static_cast<double>(num_items(problem));
    const bool one_replica_each = counts.most_replicas == 1;
    if (one_replica_each) {
      EXPECT_GT(gain, -1e-9);
    }
    EXPECT_LT(min_gain * tenths, 2 * imbalance(current, problem));
    if (HasFailure()) return;
  }
}

TEST(BetterPlacement, IsStableOnceReached) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    PlacementProblem problem = random_problem(seed);
    Placement current = plan_placement(1, problem).placement;
    Random random(seed + 1);
    problem.loads = skewed_loads(problem.shape, random);
    size_t rounds = 0;
    while (const auto better = better_placement(2, problem, current, 0.02)) {
      current = *better;
      ASSERT_LT(++rounds, 8u) << "seed " << seed;
    }
  }
}

/// Of the processor.
double seconds_for(const std::function<void()>& run) {
  const std::clock_t begin = std::clock();
  run();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

TEST(PlanPlacement, IsFastForLargeClusters) {
  Random random(1);
  PlacementProblem problem = alike(58, 256, 64);
  problem.replicas = 2;
  problem.extra_replicas = 0.1;
  problem.loads = skewed_loads(problem.shape, random);
  // It takes 0.05 s where the compiler optimises; this must pass under sanitizers too.
  constexpr double kMost = 10;
  const Placement current = plan_placement(1, problem).placement;
  EXPECT_LT(seconds_for([&] { plan_placement(1, problem); }), kMost);
  problem.loads = skewed_loads(problem.shape, random);
  EXPECT_LT(seconds_for([&] { better_placement(2, problem, current, 0.02); }), kMost);
  problem.workers.pop_back();
  EXPECT_LT(seconds_for([&] { repair_placement(3, problem, current); }), kMost);
}

}  // namespace
}  // namespace pregate::coordinator
