// What every eviction policy keeps to, whatever it is: a new one is picked up from the registry.
#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "worker/experts/cache/simulate.h"

namespace pregate::worker {
namespace {

ExpertKey key(uint64_t expert) {
  return {LayerIdx(static_cast<uint32_t>(expert % 3)), ExpertId(static_cast<uint32_t>(expert))};
}

std::vector<ExpertSet> random_trace(uint64_t seed, size_t num_experts, size_t num_times) {
  Random random(seed);
  std::vector<ExpertSet> trace(num_times);
  for (ExpertSet& needed : trace) {
    std::set<ExpertKey> some;
    const uint64_t count = random.next_below(4);
    for (uint64_t i = 0; i < count; ++i) some.insert(key(random.next_below(num_experts)));
    needed.assign(some.begin(), some.end());
  }
  return trace;
}

class EvictionPolicies : public ::testing::TestWithParam<std::string> {
 protected:
  static std::unique_ptr<EvictionPolicy> make(uint64_t seed = 1) {
    return make_eviction_policy(GetParam(), {.seed = seed}).value();
  }
  static SimulationResult simulate_new(const std::vector<ExpertSet>& trace, size_t capacity) {
    const auto policy = make();
    return simulate(trace, {.capacity = capacity}, *policy);
  }
};

TEST_P(EvictionPolicies, IsCalledWhatItIsMadeBy) { EXPECT_EQ(make()->name(), GetParam()); }

TEST_P(EvictionPolicies, ChoosesTheOnlyCandidate) {
  const auto policy = make();
  const KnownUses uses;
  policy->loaded(key(1));
  policy->loaded(key(2));
  EXPECT_EQ(policy->choose(std::vector{key(2)}, uses), 0u);
}

/// Experts come, are used and go at random; what may go at a time is any part of what is held.
TEST_P(EvictionPolicies, ChoosesAmongTheCandidates) {
  const auto policy = make();
  Random random(7);
  KnownUses uses;
  std::vector<ExpertKey> held;
  for (uint64_t time = 0; time < 3000; ++time) {
    const ExpertKey wanted = key(random.next_below(40));
    uses.advance(time);
    if (random.next_below(3) == 0) {
      uses.add({{.layer = wanted.first,
                 .expert = wanted.second,
                 .when = time + random.next_below(20),
                 .certain = random.next_below(2) == 0,
                 .likelihood = static_cast<float>(random.next_double())}});
    }
    policy->used(wanted, 0);
    if (std::ranges::count(held, wanted) > 0) continue;
    if (held.size() == 12) {
      const auto first = static_cast<ptrdiff_t>(random.next_below(6));
      const std::span candidates = std::span(held).subspan(static_cast<size_t>(first), 6);
      const size_t chosen = policy->choose(candidates, uses);
      ASSERT_LT(chosen, candidates.size());
      policy->evicted(candidates[chosen]);
      held.erase(held.begin() + first + static_cast<ptrdiff_t>(chosen));
    }
    policy->loaded(wanted);
    held.push_back(wanted);
  }
}

TEST_P(EvictionPolicies, TheSameHistoryAndSeedGiveTheSameChoices) {
  const auto trace = random_trace(3, 12, 400);
  const auto first = make(5), second = make(5);
  const SimulationResult a = simulate(trace, {.capacity = 5}, *first);
  const SimulationResult b = simulate(trace, {.capacity = 5}, *second);
  EXPECT_EQ(a.hits, b.hits);
  EXPECT_EQ(a.evictions, b.evictions);
}

TEST_P(EvictionPolicies, MissesOnlyOnceWhereEverythingFits) {
  const auto trace = random_trace(4, 12, 400);
  std::set<ExpertKey> all;
  for (const ExpertSet& needed : trace) all.insert(needed.begin(), needed.end());
  const SimulationResult result = simulate_new(trace, all.size());
  EXPECT_EQ(result.misses, all.size());
  EXPECT_EQ(result.evictions, 0u);
}

TEST_P(EvictionPolicies, EveryLoadButTheFirstOnesEvicts) {
  for (const size_t capacity : {1, 2, 5}) {
    const SimulationResult result = simulate_new(random_trace(5, 12, 400), capacity);
    EXPECT_EQ(result.evictions + capacity, result.misses);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EvictionPolicies, ::testing::ValuesIn(eviction_policy_names()),
                         [](const auto& policy) { return policy.param; });

}  // namespace
}  // namespace pregate::worker
