// What each policy evicts.
#include "worker/experts/cache/eviction.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr ExpertKey key(uint32_t expert) { return {LayerIdx(2), ExpertId(expert)}; }

/// A policy and what it holds.
class Evicting : public ::testing::Test {
 protected:
  void use(const std::string& name) { policy_ = make_eviction_policy(name, {.seed = 1}).value(); }
  void load(std::initializer_list<uint32_t> experts) {
    for (const uint32_t expert : experts) {
      policy_->loaded(key(expert));
      held_.push_back(key(expert));
    }
  }
  void touch(std::initializer_list<uint32_t> experts) {
    for (const uint32_t expert : experts) policy_->used(key(expert), uses_.now());
  }
  void plan(uint32_t expert, router::LayerTime when, float likelihood = 1) {
    uses_.add({{.layer = LayerIdx(2),
                .expert = ExpertId(expert),
                .when = when,
                .certain = likelihood == 1,
                .likelihood = likelihood}});
  }
  /// All of them, in the order in which they go.
  std::vector<uint32_t> evict_all() {
    std::vector<uint32_t> order;
    while (!held_.empty()) {
      const auto victim = held_.begin() + static_cast<ptrdiff_t>(policy_->choose(held_, uses_));
      order.push_back(victim->second.value);
      policy_->evicted(*victim);
      held_.erase(victim);
    }
    return order;
  }

  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<ExpertKey> held_;
  KnownUses uses_;
};

TEST_F(Evicting, LruTheLeastRecentlyUsedOrLoaded) {
  use("lru");
  load({1, 2, 3});
  touch({1});
  load({4});
  EXPECT_THAT(evict_all(), ElementsAre(2, 3, 1, 4));
}

TEST_F(Evicting, LfuTheLeastOftenUsed) {
  use("lfu");
  load({1, 2, 3, 4});
  touch({1, 1, 1, 2, 3, 3, 4});
  EXPECT_THAT(evict_all(), ElementsAre(2, 4, 3, 1));
}

TEST_F(Evicting, LfuRemembersWhatHasLeft) {
  use("lfu");
  load({1});
  touch({1, 1});
  evict_all();
  load({1, 2});
  touch({2});
  EXPECT_THAT(evict_all(), ElementsAre(2, 1));
}

TEST_F(Evicting, BeladyTheOneNeededLast) {
  use("belady");
  load({1, 2, 3});
  plan(1, 5);
  plan(2, 9);
  plan(2, 6);
  plan(3, 7);
  EXPECT_THAT(evict_all(), ElementsAre(3, 2, 1));
}

TEST_F(Evicting, BeladyFirstWhatNoPlanNamesLeastOftenUsedFirst) {
  use("belady");
  load({1, 2, 3, 4});
  touch({2, 2, 4});
  plan(1, 20);
  EXPECT_THAT(evict_all(), ElementsAre(3, 4, 2, 1));
}

TEST_F(Evicting, BeladyAnUnlikelyGuessBeforeWhatIsUsedOften) {
  use("belady");
  load({1, 2, 3});
  for (router::LayerTime now = 0; now < 16; ++now) {
    uses_.advance(now);
    touch({2});
    if (now % 8 == 0) touch({3});
  }
  plan(1, 16, 0.05f);
  EXPECT_THAT(evict_all(), ElementsAre(1, 3, 2));
}

TEST_F(Evicting, BeladyTrustsGuessesLess) {
  use("belady");
  load({1, 2, 3});
  plan(1, 3, 0.9f);
  plan(2, 3);
  plan(3, 2, 0.1f);
  EXPECT_THAT(evict_all(), ElementsAre(3, 1, 2));
}

TEST_F(Evicting, RandomAnyOfThemAndNoneMuchMoreOften) {
  use("random");
  load({1, 2, 3, 4});
  std::map<size_t, size_t> counts;
  for (size_t i = 0; i < 4000; ++i) ++counts[policy_->choose(held_, uses_)];
  ASSERT_EQ(counts.size(), 4u);
  for (const auto& [index, count] : counts) EXPECT_NEAR(double(count), 1000.0, 150.0) << index;
}

TEST(EvictionPolicyNames, AnUnknownOneIsRefusedWithTheKnownOnes) {
  const auto policy = make_eviction_policy("fifo", {.seed = 1});
  ASSERT_FALSE(policy);
  EXPECT_EQ(policy.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(policy.error().message, HasSubstr("fifo"));
  EXPECT_THAT(policy.error().message, HasSubstr("random, lru, lfu, belady"));
}

}  // namespace
}  // namespace pregate::worker
