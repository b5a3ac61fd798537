#include "coordinator/placement/affinity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::coordinator {
namespace {

using ::testing::Each;

constexpr uint32_t kExperts = 8;

/// One layer; each token goes to two experts of one of two groups: the even ones, the odd ones.
router::RoutingTrace grouped_trace(size_t num_tokens) {
  router::RoutingTrace trace{.num_experts = kExperts, .top_k = 2, .layers = {3}};
  Random random(1);
  for (size_t token = 0; token < num_tokens; ++token) {
    const auto group = static_cast<uint16_t>(random.next_below(2));
    const uint64_t first = random.next_below(4), step = 1 + random.next_below(3);
    trace.tokens.push_back(0);
    trace.experts.push_back(static_cast<uint16_t>(2 * first + group));
    trace.experts.push_back(static_cast<uint16_t>(2 * ((first + step) % 4) + group));
  }
  trace.starts = {0};
  return trace;
}

PlacementProblem problem_of(const TracedUse& use, uint32_t num_workers) {
  PlacementProblem problem{.shape = use.shape, .loads = use.loads};
  for (uint32_t id = 1; id <= num_workers; ++id) problem.workers.push_back({WorkerId(id), 1, 100});
  return problem;
}

TEST(TracedUse, CountsTokensAndPairs) {
  router::RoutingTrace trace{.num_experts = 4, .top_k = 2, .layers = {1, 5}};
  trace.tokens = {7, 8};
  trace.starts = {0};
  trace.experts = {0, 1, 2, 3, 1, 0, 2, 1};
  const TracedUse use = traced_use({&trace, 1});
  EXPECT_EQ(use.shape.layers, (std::vector{LayerIdx(1), LayerIdx(5)}));
  EXPECT_EQ(use.loads[0], (std::vector<double>{2, 2, 0, 0}));
  EXPECT_EQ(use.loads[1], (std::vector<double>{0, 1, 2, 1}));
  EXPECT_EQ(use.together[0][0 * 4 + 1], 2);
  EXPECT_EQ(use.together[0][1 * 4 + 0], 2);
  EXPECT_EQ(use.together[1][2 * 4 + 3], 1);
  EXPECT_EQ(use.together[1][3 * 4 + 1], 0);
}

TEST(Affinity, FindsTheGroups) {
  const auto trace = grouped_trace(2000);
  const TracedUse use = traced_use({&trace, 1});
  const PlacementProblem problem = problem_of(use, 2);
  const Placement before = plan_placement(4, problem).placement;
  ASSERT_THAT(workers_per_token(before, {&trace, 1}), Each(testing::Gt(1.3)));
  const Placement after = with_affinity(problem, before, use, 0.1);
  EXPECT_THAT(workers_per_token(after, {&trace, 1}), Each(1.0));
  EXPECT_EQ(after.version(), 4u);
  EXPECT_LE(imbalance(after, problem), 1.1);
}

TEST(Affinity, NeverMakesItWorseAndKeepsNumbersAndLoads) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Random random(seed);
    router::RoutingTrace trace{.num_experts = 24, .top_k = 4, .layers = {0, 1}};
    trace.starts = {0};
    for (size_t token = 0; token < 300; ++token) {
      trace.tokens.push_back(0);
      for (size_t layer = 0; layer < 2; ++layer) {
        std::set<uint16_t> some;
        const uint64_t group = random.next_below(6);
        while (some.size() < 4) {
          const bool any = random.next_below(3) == 0;
          some.insert(static_cast<uint16_t>(any ? random.next_below(24)
                                                : 4 * group + random.next_below(4)));
        }
        trace.experts.insert(trace.experts.end(), some.begin(), some.end());
      }
    }
    const TracedUse use = traced_use({&trace, 1});
    const PlacementProblem problem = problem_of(use, 4);
    const Placement before = plan_placement(1, problem).placement;
    const Placement after = with_affinity(problem, before, use, 0.1);
    const auto was = workers_per_token(before, {&trace, 1});
    const auto is = workers_per_token(after, {&trace, 1});
    for (size_t layer = 0; layer < 2; ++layer) EXPECT_LT(is[layer], was[layer]) << seed;
    EXPECT_LE(imbalance(after, problem), std::max(1.1, imbalance(before, problem)) + 0.01) << seed;
    for (const WorkerRoom& worker : problem.workers) {
      size_t held_before = 0, held_after = 0;
      for (const auto& range : before.assigned_to(worker.id)) held_before += range.count;
      for (const auto& range : after.assigned_to(worker.id)) held_after += range.count;
      EXPECT_EQ(held_after, held_before) << seed;
    }
  }
}

TEST(Affinity, AWorkerThatIsNotInTheProblemKeepsWhatItHas) {
  const auto trace = grouped_trace(500);
  const TracedUse use = traced_use({&trace, 1});
  PlacementProblem problem = problem_of(use, 3);
  const Placement before = plan_placement(1, problem).placement;
  problem.workers.pop_back();
  const Placement after = with_affinity(problem, before, use, 0.1);
  EXPECT_EQ(after.assigned_to(WorkerId(3)), before.assigned_to(WorkerId(3)));
}

}  // namespace
}  // namespace pregate::coordinator
