#include "worker/serving/planned_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/expert_cache/cache_fixture.h"
#include "worker/experts/on_disk.h"

namespace pregate::worker {
namespace {

using pregate::testing::expert_key;
using pregate::testing::kFakeHidden;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr size_t kLayers = 4;

/// Holds experts 0 to 7 of layer 0.
class PlannedCacheTest : public pregate::testing::CacheTest {
 protected:
  PlannedCacheTest() {
    make(4, "belady");
    const auto reader = ExpertOnDisk::reader(compute::WeightFormat::kF32, kFakeHidden);
    for (uint32_t id = 0; id < 8; ++id) {
      store.insert(expert_key(id), reader(LayerIdx(0), ExpertId(id)).value());
    }
    planned = std::make_unique<PlannedCache>(*cache, store, kLayers);
  }

  static protocol::ExpertPlan plan(uint64_t now, uint32_t expert, uint32_t ahead = 1) {
    return {now, {{LayerIdx(0), ExpertId(expert), ahead, 1.0f, true}}};
  }
  void compute(uint64_t connection, uint64_t step, uint32_t expert) {
    protocol::ExpertRequest request;
    request.step = step;
    use_up(*planned->acquire(connection, request, {expert_key(expert)}));
  }

  ExpertStore store{compute::WeightFormat::kF32};
  std::unique_ptr<PlannedCache> planned;
};

TEST_F(PlannedCacheTest, PrefetchesWhatIsPlanned) {
  planned->expect(1, plan(0, 3));
  probe.wait_for_loads(1);
  EXPECT_THAT(disk.reads(), ElementsAre(3));
  compute(1, 1, 3);
  EXPECT_EQ(cache->counters().hits, 1u);
  EXPECT_EQ(cache->counters().prefetch_loads, 1u);
}

TEST_F(PlannedCacheTest, WhatIsNotHeldHereIsNotFetched) {
  planned->expect(1, {0,
                      {{LayerIdx(0), ExpertId(70), 1, 1.0f, true},
                       {LayerIdx(9), ExpertId(1), 1, 1.0f, true},
                       {LayerIdx(0), ExpertId(5), 1, 1.0f, true}}});
  probe.wait_for_loads(1);
  EXPECT_THAT(disk.reads(), ElementsAre(5));
}

TEST_F(PlannedCacheTest, WhatHasPassedIsNotFetched) {
  compute(1, 100, 0);
  planned->expect(1, plan(50 * kLayers, 3));
  compute(1, 101, 1);
  EXPECT_THAT(disk.reads(), ElementsAre(0, 1));
}

/// A coordinator that starts anew counts from zero.
TEST_F(PlannedCacheTest, PlansOfAnotherConnectionAreFollowedWhateverItsTime) {
  compute(1, 1000, 0);
  planned->expect(2, plan(0, 3));
  probe.wait_for_loads(2);
  compute(2, 1, 3);
  EXPECT_EQ(cache->counters().hits, 1u);
  planned->expect(3, plan(uint64_t{1} << 63, 4));
  probe.wait_for_loads(3);
  EXPECT_THAT(disk.reads(), ElementsAre(0, 3, 4));
}

TEST_F(PlannedCacheTest, WhatComesLateOverAnOldConnectionTurnsNoTimeBack) {
  compute(2, 10, 0);
  compute(1, 1000, 1);
  planned->expect(1, plan(5000, 2, 100));
  planned->expect(2, plan(11 * kLayers, 3));
  probe.wait_for_loads(4);
  compute(2, 12, 3);
  EXPECT_EQ(cache->counters().hits, 1u);
}

}  // namespace
}  // namespace pregate::worker
