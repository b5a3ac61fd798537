#include "worker/experts/cache/expert_cache.h"

#include <numeric>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/expert_cache/cache_fixture.h"

namespace pregate::worker {
namespace {

using pregate::testing::expert_key;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Caching : public pregate::testing::CacheTest {};

TEST_F(Caching, AMemoryForLessThanOneExpertIsRefused) {
  const auto made =
      ExpertCache::create({disk.reader()}, make_eviction_policy("lru", {.seed = 1}).value(),
                          {.memory_bytes = 999, .expert_bytes = 1000}, system_clock(), probe);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(made.error().message, HasSubstr("999"));
  EXPECT_THAT(made.error().message, HasSubstr("1000"));
}

TEST_F(Caching, LoadsOnDemandAndKeeps) {
  make(4);
  const auto first = acquire({3, 5});
  EXPECT_EQ(first->num_missing(), 2u);
  size_t total = 0;
  for (const size_t size : use_up(*first)) total += size;
  EXPECT_EQ(total, 2u);
  const auto second = acquire({3, 5});
  EXPECT_EQ(second->num_missing(), 0u);
  EXPECT_THAT(next(*second), ElementsAre(0, 1));
  EXPECT_THAT(next(*second), IsEmpty());
  EXPECT_THAT(disk.reads(), ElementsAre(3, 5));
  const CacheCounters counters = cache->counters();
  EXPECT_EQ(counters.hits, 2u);
  EXPECT_EQ(counters.misses, 2u);
  EXPECT_EQ(counters.demand_loads, 2u);
  EXPECT_EQ(counters.prefetch_loads, 0u);
  EXPECT_EQ(counters.bytes, 2000u);
  EXPECT_EQ(counters.memory_bytes, 4000u);
  EXPECT_EQ(counters.num_experts, 2u);
  EXPECT_DOUBLE_EQ(counters.hit_ratio(), 0.5);
}

TEST_F(Caching, WhatIsThereIsGivenBeforeTheRestArrives) {
  make(4);
  use({1, 2});
  disk.hold();
  const auto lease = acquire({1, 7, 2});
  EXPECT_EQ(lease->num_missing(), 1u);
  EXPECT_THAT(next(*lease), ElementsAre(0, 2));
  disk.let_go();
  EXPECT_THAT(next(*lease), ElementsAre(1));
  EXPECT_THAT(next(*lease), IsEmpty());
}

/// Reads of the disk end when the test's own thread asks for the time, which it does as it begins
/// to wait, with the cache's lock held.
class ReleasingClock final : public Clock {
 public:
  explicit ReleasingClock(pregate::testing::FakeDisk& disk) : disk_(disk) {}
  TimePoint now() const override {
    if (std::this_thread::get_id() == test_thread_) disk_.let_go();
    return system_clock().now();
  }

 private:
  pregate::testing::FakeDisk& disk_;
  const std::thread::id test_thread_ = std::this_thread::get_id();
};

TEST_F(Caching, WhatABatchWaitedForIsCounted) {
  const ReleasingClock clock(disk);
  make(2, "lru", 1, clock);
  disk.hold();
  use({1});
  use({1});
  EXPECT_EQ(cache->counters().waits, 1u);
  EXPECT_GT(cache->counters().wait.count(), 0);
  cache.reset();  // Before its clock.
}

/// A batch that needs more than fits is computed in groups that do.
TEST_F(Caching, AnyBatchGoesThroughAnyMemory) {
  for (const size_t capacity : {1, 2, 3}) {
    make(capacity);
    for (size_t round = 0; round < 3; ++round) {
      const auto lease = acquire({0, 1, 2, 3, 4, 5, 6});
      size_t total = 0;
      for (const size_t size : use_up(*lease)) {
        EXPECT_LE(size, capacity);
        total += size;
      }
      EXPECT_EQ(total, 7u);
      EXPECT_LE(cache->counters().bytes, capacity * 1000);
    }
  }
}

TEST_F(Caching, WhatIsComputedWithStays) {
  make(2);
  use({1, 2});
  disk.hold();
  const auto lease = acquire({1, 9, 8});
  const auto group = lease->next().value();
  ASSERT_EQ(group.size(), 1u);
  disk.let_go();
  probe.wait_for_loads(3);  // 9 takes the place of 2, and 8 finds none.
  const auto* expert = static_cast<const pregate::testing::FakeExpert*>(group[0].expert);
  EXPECT_EQ(expert->scale, 1.37f);
  EXPECT_THAT(disk.reads(), ElementsAre(1, 2, 9));
  const auto sizes = use_up(*lease);
  EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), size_t{0}), 2u);
}

TEST_F(Caching, PrefetchesByNeed) {
  make(8);
  disk.hold();
  cache->expect(certain({{7, 9}}), 0);  // Under way when the others come.
  disk.wait_for_reads(1);
  router::Plan plan = certain({{1, 3}, {2, 1}});
  plan.push_back(guess(3, 1, 0.7f));
  plan.push_back(guess(4, 1, 0.9f));
  plan.push_back(guess(5, 2, 1.0f));
  cache->expect(plan, 0);
  disk.let_go();
  EXPECT_THAT(disk.wait_for_reads(6), ElementsAre(7, 2, 4, 3, 5, 1));
  probe.wait_for_loads(6);
  EXPECT_EQ(cache->counters().prefetch_loads, 6u);
  EXPECT_EQ(acquire({2}, 1)->num_missing(), 0u);
}

TEST_F(Caching, GuessesThatAreRatherWrongAreNotPrefetched) {
  make(8);
  router::Plan plan = certain({{3, 9}});
  plan.push_back(guess(1, 1, 0.4f));
  plan.push_back(guess(2, 2, 0.6f));
  cache->expect(plan, 0);
  probe.wait_for_loads(2);
  EXPECT_THAT(disk.reads(), ElementsAre(2, 3));
}

TEST_F(Caching, ADemandOvertakesPrefetches) {
  make(8);
  disk.hold();
  cache->expect(certain({{1, 1}, {2, 1}, {3, 1}}), 0);
  disk.wait_for_reads(1);
  const auto lease = acquire({6, 5}, 0);
  disk.let_go();
  use_up(*lease);
  EXPECT_THAT(disk.wait_for_reads(5), ElementsAre(1, 6, 5, 2, 3));
}

TEST_F(Caching, ADemandJoinsAPrefetchUnderWay) {
  make(2);
  disk.hold();
  cache->expect(certain({{1, 1}}), 0);
  disk.wait_for_reads(1);
  const auto lease = acquire({1}, 1);
  EXPECT_EQ(lease->num_missing(), 1u);
  disk.let_go();
  EXPECT_THAT(use_up(*lease), ElementsAre(1));
  EXPECT_THAT(disk.reads(), ElementsAre(1));
}

TEST_F(Caching, APrefetchEvictsNothingThatIsNeededSooner) {
  for (const std::string& policy : eviction_policy_names()) {
    make(2, policy);
    const size_t before = disk.reads().size();
    cache->expect(certain({{1, 1}, {2, 2}, {3, 3}}), 0);
    disk.wait_for_reads(before + 2);
    // It is loaded in place of 1 once that was used, and not before; 2 stays.
    use({1}, 1);
    const auto reads = disk.wait_for_reads(before + 3);
    EXPECT_EQ(std::vector(reads.begin() + ptrdiff_t(before), reads.end()),
              (std::vector<uint32_t>{1, 2, 3}))
        << policy;
    EXPECT_EQ(acquire({2}, 2)->num_missing(), 0u) << policy;
    EXPECT_EQ(cache->counters().evictions, 1u) << policy;
  }
}

TEST_F(Caching, GuessesAreForgottenWhenTheirTimeHasPassed) {
  make(8);
  disk.hold();
  cache->expect(certain({{1, 1}}), 0);
  disk.wait_for_reads(1);
  cache->expect({guess(2, 2, 0.9f)}, 0);
  const auto lease = acquire({3}, 2);
  cache->expect(certain({{4, 5}}), 2);
  disk.let_go();
  use_up(*lease);
  EXPECT_THAT(disk.wait_for_reads(3), ElementsAre(1, 3, 4));
}

TEST_F(Caching, WhatWasPrefetchedInVainIsCounted) {
  make(1);
  cache->expect({guess(1, 1, 0.5f)}, 0);
  probe.wait_for_loads(1);
  use({2}, 1);
  EXPECT_EQ(cache->counters().unused_prefetches, 1u);
  cache->expect(certain({{3, 2}}), 1);
  probe.wait_for_loads(3);
  use({3}, 2);
  use({4}, 3);
  EXPECT_EQ(cache->counters().unused_prefetches, 1u);
  EXPECT_EQ(cache->counters().evictions, 3u);
}

TEST_F(Caching, APrefetchThatFailsIsTriedAgain) {
  make(2);
  disk.fail_next(expert_key(1), 2);
  cache->expect(certain({{1, 1}}), 0);
  probe.wait_for_loads(1);
  EXPECT_THAT(disk.reads(), ElementsAre(1, 1, 1));
  EXPECT_EQ(cache->counters().load_errors, 2u);
  EXPECT_EQ(acquire({1}, 1)->num_missing(), 0u);
}

TEST_F(Caching, APrefetchThatFailsAlwaysIsLeftToTheDemand) {
  make(2);
  disk.fail_next(expert_key(1), 4);
  cache->expect(certain({{1, 1}, {2, 2}}), 0);
  probe.wait_for_failures(4);
  probe.wait_for_loads(1);  // of 2: others go on
  use({1}, 1);
  EXPECT_EQ(cache->counters().demand_loads, 1u);
}

TEST_F(Caching, ADemandThatFailsIsTriedAgain) {
  make(2);
  disk.fail_next(expert_key(1), 3);
  use({1});
  EXPECT_THAT(disk.reads(), ElementsAre(1, 1, 1, 1));
}

TEST_F(Caching, ADemandThatFailsTooOftenEndsTheBatchAndNotTheCache) {
  make(2);
  disk.fail_next(expert_key(1), 4);
  const auto lease = acquire({1, 2});
  auto group = lease->next();
  while (group && !group->empty()) group = lease->next();
  ASSERT_FALSE(group);
  EXPECT_EQ(group.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(group.error().message, HasSubstr("layer 0 expert 1"));
  EXPECT_THAT(group.error().message, HasSubstr("the disk is broken"));
  use({1, 2});
}

TEST_F(Caching, WhatCannotGetBetterIsNotTriedAgain) {
  make(2);
  disk.fail_next(expert_key(1), 1, ErrorCode::kDataLoss);
  const auto group = acquire({1})->next();
  ASSERT_FALSE(group);
  EXPECT_EQ(group.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(disk.reads(), ElementsAre(1));
}

TEST_F(Caching, ABatchThatIsGivenUpIsNotLoadedAnyFurther) {
  make(8);
  disk.hold();
  acquire({1, 2, 3}).reset();
  cache->expect(certain({{4, 1}}), 0);
  disk.let_go();
  const auto reads = disk.wait_for_read_of(4);
  EXPECT_THAT(reads, ::testing::AnyOf(ElementsAre(4), ElementsAre(1, 4)));
}

TEST_F(Caching, EndsWhileSomethingIsLoaded) {
  make(8, "lru", 3);
  disk.hold();
  cache->expect(certain({{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}}), 0);
  disk.wait_for_reads(3);
  disk.let_go();
  cache.reset();
}

}  // namespace
}  // namespace pregate::worker
