// Many threads at once; run it under the thread sanitizer too.
#include <atomic>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/unit/worker/fake_backend.h"
#include "worker/experts/cache/expert_cache.h"

namespace pregate::worker {
namespace {

constexpr size_t kNumExperts = 24;

/// Counts those that live, whether the cache knows of them or not.
class CountedExpert final : public compute::PackedExpert {
 public:
  CountedExpert(std::atomic<size_t>& live, ExpertId which) : id(which), live_(live) { ++live_; }
  ~CountedExpert() override { --live_; }
  compute::WeightFormat format() const override { return compute::WeightFormat::kF32; }
  size_t hidden_size() const override { return 1; }
  size_t intermediate_size() const override { return 1; }
  size_t bytes() const override { return 1000; }

  const ExpertId id;

 private:
  std::atomic<size_t>& live_;
};

class Crowd : public ::testing::TestWithParam<std::string> {
 protected:
  ReadExpert reader(uint64_t seed) {
    return [this, random = std::make_shared<Random>(seed)](
               LayerIdx, ExpertId expert) -> Result<std::unique_ptr<compute::PackedExpert>> {
      if (random->next_below(10) == 0) return fail(ErrorCode::kUnavailable, "a bad sector");
      auto loaded = std::make_unique<CountedExpert>(live_, expert);
      const size_t live = live_;
      for (size_t most = most_live_;
           most < live && !most_live_.compare_exchange_weak(most, live);) {
      }
      return loaded;
    };
  }

  static std::vector<ExpertKey> random_batch(Random& random) {
    std::set<ExpertKey> keys;
    const uint64_t count = random.next_below(8);
    for (uint64_t i = 0; i < count; ++i) {
      keys.emplace(LayerIdx(0), ExpertId(static_cast<uint32_t>(random.next_below(kNumExperts))));
    }
    return {keys.begin(), keys.end()};
  }

  void plan(Random& random) {
    router::Plan plan;
    const router::LayerTime now = time_;
    for (const ExpertKey& key : random_batch(random)) {
      plan.push_back({key.first, key.second, now + random.next_below(5), random.next_below(2) == 0,
                      static_cast<float>(random.next_double())});
    }
    cache_->expect(plan, now);
  }

  void compute(Random& random) {
    const std::vector<ExpertKey> keys = random_batch(random);
    const auto lease = cache_->acquire(keys, ++time_);
    std::set<size_t> seen;
    for (;;) {
      const auto group = lease->next();
      if (!group) {
        ++num_errors_;
        return;
      }
      if (group->empty()) break;
      for (const auto& [index, expert] : *group) {
        EXPECT_TRUE(seen.insert(index).second);
        EXPECT_EQ(static_cast<const CountedExpert*>(expert)->id, keys[index].second);
      }
    }
    EXPECT_EQ(seen.size(), keys.size());
  }

  std::atomic<size_t> live_{0}, most_live_{0}, num_errors_{0};
  std::atomic<router::LayerTime> time_{0};
  CacheProbe probe_;
  std::unique_ptr<ExpertCache> cache_;
};

TEST_P(Crowd, EveryBatchIsComputedWithinTheMemory) {
  for (const size_t capacity : {1, 3, 9}) {
    most_live_ = 0;
    cache_ = ExpertCache::create({reader(1), reader(2), reader(3)},
                                 make_eviction_policy(GetParam(), {.seed = 1}).value(),
                                 {.memory_bytes = capacity * 1000,
                                  .expert_bytes = 1000,
                                  .max_retries = 6,
                                  .retry_pause = std::chrono::microseconds(1)},
                                 system_clock(), probe_)
                 .value();
    {
      std::vector<std::jthread> threads;
      for (uint64_t seed = 0; seed < 4; ++seed) {
        threads.emplace_back([this, seed] {
          Random random(seed);
          for (size_t i = 0; i < 150; ++i) {
            if (seed == 0) plan(random);
            compute(random);
          }
        });
      }
    }
    cache_.reset();
    EXPECT_EQ(live_, 0u);
    EXPECT_LE(most_live_, capacity);
    EXPECT_LE(num_errors_, 2u);  // One in ten million loads fails seven times.
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, Crowd, ::testing::ValuesIn(eviction_policy_names()),
                         [](const auto& policy) { return policy.param; });

}  // namespace
}  // namespace pregate::worker
