#include "worker/experts/cache/simulate.h"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::worker {
namespace {

constexpr ExpertKey key(uint64_t expert) {
  return {LayerIdx(0), ExpertId(static_cast<uint32_t>(expert))};
}

ExpertSet set_of(std::initializer_list<uint64_t> experts) {
  ExpertSet keys;
  for (const uint64_t expert : experts) keys.push_back(key(expert));
  return keys;
}

SimulationResult simulate_with(const std::string& name, const std::vector<ExpertSet>& trace,
                               SimulationOptions options) {
  const auto policy = make_eviction_policy(name, {.seed = 1}).value();
  return simulate(trace, options, *policy);
}

TEST(Simulate, CountsByHand) {
  const std::vector trace{set_of({1, 2}), set_of({1, 3}), set_of({2}), set_of({1})};
  // 1 2 | 1 hits, 3 for 2 | 2 for 3 | 1 hits.
  const SimulationResult lru = simulate_with("lru", trace, {.capacity = 2});
  EXPECT_EQ(lru.hits, 1u);
  EXPECT_EQ(lru.misses, 5u);
  EXPECT_EQ(lru.evictions, 3u);
  const SimulationResult belady = simulate_with("belady", trace, {.capacity = 2});
  EXPECT_EQ(belady.hits, 2u);
  EXPECT_DOUBLE_EQ(belady.hit_ratio(), 1.0 / 3.0);
}

TEST(Simulate, NothingIsNeeded) {
  EXPECT_EQ(simulate_with("lru", {}, {.capacity = 1}).hit_ratio(), 0.0);
  EXPECT_EQ(simulate_with("lru", {{}, {}}, {.capacity = 1}).misses, 0u);
}

/// Layers that go round in little memory: the least recently used one is the next to be needed.
TEST(Simulate, WithoutForesightBeladyGoesByTheUseSoFar) {
  constexpr uint32_t kLayers = 6;
  Random random(11);
  std::vector<ExpertSet> trace;
  for (uint32_t time = 0; time < 200 * kLayers; ++time) {
    const LayerIdx layer(time % kLayers);
    trace.push_back(
        {{layer, ExpertId(0)}, {layer, ExpertId(static_cast<uint32_t>(1 + random.next_below(8)))}});
  }
  const SimulationOptions blind{.capacity = kLayers, .horizon = 0};
  const auto belady = make_eviction_policy("belady", {.num_layers = kLayers}).value();
  EXPECT_GT(simulate(trace, blind, *belady).hit_ratio(), 0.3);
  EXPECT_LT(simulate_with("lru", trace, blind).hit_ratio(), 0.1);
}

std::vector<ExpertSet> random_trace(Random& random, size_t num_experts, size_t num_times,
                                    size_t max_needed) {
  std::vector<ExpertSet> trace(num_times);
  for (ExpertSet& needed : trace) {
    std::set<ExpertKey> some;
    const uint64_t count = 1 + random.next_below(max_needed);
    for (uint64_t i = 0; i < count; ++i) some.insert(key(random.next_below(num_experts)));
    needed.assign(some.begin(), some.end());
  }
  return trace;
}

/// The most hits that any choice of victims gives: all of them are tried.
class BestOfAll {
 public:
  BestOfAll(const std::vector<ExpertSet>& trace, size_t capacity)
      : trace_(trace), capacity_(capacity) {}
  uint64_t hits() { return best_from(0, {}); }

 private:
  using Contents = std::set<ExpertKey>;

  uint64_t best_from(size_t time, const Contents& contents) {
    if (time == trace_.size()) return 0;
    const auto [known, is_new] = best_.try_emplace({time, contents}, 0);
    if (!is_new) return known->second;
    ExpertSet missing;
    for (const ExpertKey& needed : trace_[time]) {
      if (!contents.contains(needed)) missing.push_back(needed);
    }
    std::set<Contents> outcomes{contents};
    for (const ExpertKey& load : missing) outcomes = after_loading(load, outcomes);
    uint64_t best = 0;
    for (const Contents& outcome : outcomes) best = std::max(best, best_from(time + 1, outcome));
    const uint64_t hits = trace_[time].size() - missing.size() + best;
    best_[{time, contents}] = hits;
    return hits;
  }

  std::set<Contents> after_loading(const ExpertKey& load, const std::set<Contents>& before) const {
    std::set<Contents> after;
    for (const Contents& contents : before) {
      if (contents.size() < capacity_) {
        Contents more = contents;
        more.insert(load);
        after.insert(more);
        continue;
      }
      for (const ExpertKey& victim : contents) {
        Contents other = contents;
        other.erase(victim);
        other.insert(load);
        after.insert(other);
      }
    }
    return after;
  }

  const std::vector<ExpertSet>& trace_;
  const size_t capacity_;
  std::map<std::pair<size_t, Contents>, uint64_t> best_;
};

TEST(Simulate, BeladyIsTheBestThereIs) {
  Random random(1);
  for (size_t i = 0; i < 400; ++i) {
    const size_t num_experts = 4 + random.next_below(5);
    const size_t capacity = 2 + random.next_below(3);
    const auto trace = random_trace(random, num_experts, 12, 1);
    const uint64_t best = BestOfAll(trace, capacity).hits();
    EXPECT_EQ(simulate_with("belady", trace, {.capacity = capacity}).hits, best)
        << "trace " << i << ", capacity " << capacity;
    for (const std::string& name : eviction_policy_names()) {
      EXPECT_LE(simulate_with(name, trace, {.capacity = capacity}).hits, best) << name;
    }
  }
}

/// Of experts that are needed together the order in which they are loaded matters too, which no
/// policy chooses: one hit is lost in a few traces of a thousand.
TEST(Simulate, BeladyIsAlmostTheBestThereIsForBatches) {
  Random random(1);
  uint64_t num_lost = 0;
  constexpr size_t kNumTraces = 400;
  for (size_t i = 0; i < kNumTraces; ++i) {
    const size_t num_experts = 5 + random.next_below(4);
    const size_t capacity = 3 + random.next_below(3);
    const auto trace = random_trace(random, num_experts, 10, 3);
    const uint64_t best = BestOfAll(trace, capacity).hits();
    num_lost += best - simulate_with("belady", trace, {.capacity = capacity}).hits;
    for (const std::string& name : eviction_policy_names()) {
      EXPECT_LE(simulate_with(name, trace, {.capacity = capacity}).hits, best) << name;
    }
  }
  EXPECT_LE(num_lost, kNumTraces / 100);
}

TEST(Simulate, BeladyHitsAtLeastAsOftenAsTheOthersOnLongTraces) {
  Random random(2);
  for (size_t i = 0; i < 20; ++i) {
    const auto trace = random_trace(random, 24, 400, 3);
    for (const size_t capacity : {3, 8, 16}) {
      const uint64_t belady = simulate_with("belady", trace, {.capacity = capacity}).hits;
      for (const std::string& name : eviction_policy_names()) {
        EXPECT_LE(simulate_with(name, trace, {.capacity = capacity}).hits, belady) << name;
      }
    }
  }
}

/// Not on every trace, but over many.
TEST(Simulate, ALongerHorizonHelpsBeladyOnAverage) {
  Random random(3);
  std::map<size_t, uint64_t> hits;
  for (size_t i = 0; i < 20; ++i) {
    const auto trace = random_trace(random, 24, 400, 3);
    for (const size_t horizon : {0, 2, 8, 400}) {
      hits[horizon] += simulate_with("belady", trace, {.capacity = 8, .horizon = horizon}).hits;
    }
  }
  EXPECT_LT(hits[0], hits[2]);
  EXPECT_LT(hits[2], hits[8]);
  EXPECT_LT(hits[8], hits[400]);
}

}  // namespace
}  // namespace pregate::worker
