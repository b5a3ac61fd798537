#include "worker/experts/cache/known_uses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::worker {
namespace {

using ::testing::ElementsAre;

constexpr ExpertKey key(uint32_t expert) { return {LayerIdx(0), ExpertId(expert)}; }

router::PlannedExpert certain(uint32_t expert, router::LayerTime when) {
  return {.layer = LayerIdx(0), .expert = ExpertId(expert), .when = when, .certain = true};
}

router::PlannedExpert guess(uint32_t expert, router::LayerTime when, float likelihood) {
  return {.layer = LayerIdx(0), .expert = ExpertId(expert), .when = when, .likelihood = likelihood};
}

std::vector<uint32_t> order(const KnownUses& uses) {
  std::vector<uint32_t> experts;
  for (const auto& use : uses.absent()) experts.push_back(use.key.second.value);
  return experts;
}

TEST(KnownUses, NearestFirstThenCertainThenLikelier) {
  KnownUses uses;
  uses.add({guess(1, 2, 0.5f), guess(2, 1, 0.2f), guess(3, 1, 0.9f), certain(4, 1), certain(5, 2)});
  EXPECT_THAT(order(uses), ElementsAre(4, 3, 2, 5, 1));
}

TEST(KnownUses, TheNextUseCounts) {
  KnownUses uses;
  uses.add({certain(1, 9), certain(1, 4), certain(2, 0)});
  EXPECT_EQ(uses.distance(key(1)), 4.0);
  EXPECT_EQ(uses.distance(key(2)), 0.0);
  EXPECT_EQ(uses.distance(key(3)), std::nullopt);
  uses.advance(3);
  EXPECT_EQ(uses.distance(key(1)), 1.0);
  uses.pass(4);
  EXPECT_EQ(uses.distance(key(1)), 4.0);  // 9 - 5
  EXPECT_EQ(uses.distance(key(2)), std::nullopt);
}

TEST(KnownUses, EndsAfterTheLastThatIsCertain) {
  KnownUses uses;
  EXPECT_EQ(uses.end(), 0u);
  uses.add({certain(1, 4), certain(2, 9), guess(3, 12, 0.5f)});
  EXPECT_EQ(uses.end(), 10u);
  uses.advance(11);
  EXPECT_EQ(uses.end(), 11u);
}

TEST(KnownUses, WhatIsExpectedIsWeighedByLikelihood) {
  KnownUses uses;
  const auto rest = [&](router::LayerTime from) { return 100.0 + double(from - uses.now()); };
  uses.add({certain(1, 4), guess(2, 2, 0.25f), guess(2, 3, 0.5f), certain(2, 9), guess(3, 11, 0.5f),
            guess(4, 2, 0.5f)});
  EXPECT_EQ(uses.expected_distance(key(1), rest), 4.0);
  // 2 with 1/4, 3 with 3/4 * 1/2, else 9
  EXPECT_EQ(uses.expected_distance(key(2), rest), 2 * 0.25 + 3 * 0.375 + 9 * 0.375);
  EXPECT_EQ(uses.expected_distance(key(3), rest), 11 * 0.5 + 112 * 0.5);
  EXPECT_EQ(uses.expected_distance(key(4), rest), 2 * 0.5 + 110 * 0.5);  // after all that is known
  EXPECT_EQ(uses.expected_distance(key(5), rest), 110.0);
}

TEST(KnownUses, AnUnlikelyGuessIsFartherAway) {
  KnownUses uses;
  uses.add({guess(1, 1, 0.25f), certain(2, 3), guess(3, 1, 0.5f)});
  EXPECT_EQ(uses.distance(key(1)), 7.0);
  EXPECT_EQ(uses.distance(key(3)), 3.0);
  EXPECT_EQ(uses.distance(key(2)), 3.0);
}

TEST(KnownUses, ACertainUseBehindAnUnlikelyOneMayBeNearer) {
  KnownUses uses;
  uses.add({guess(1, 1, 0.1f), certain(1, 5)});
  EXPECT_EQ(uses.distance(key(1)), 5.0);
}

TEST(KnownUses, NewsReplaceGuessesAndNotWhatIsCertain) {
  KnownUses uses;
  uses.add({guess(1, 1, 0.5f)});
  uses.add({guess(1, 1, 0.25f)});
  EXPECT_EQ(uses.distance(key(1)), 7.0);
  uses.add({certain(1, 1)});
  uses.add({guess(1, 1, 0.25f)});
  EXPECT_EQ(uses.distance(key(1)), 1.0);
  EXPECT_THAT(order(uses), ElementsAre(1));
}

TEST(KnownUses, WhatIsThereNeedNotBeBroughtIn) {
  KnownUses uses;
  uses.set_present(key(1), true);
  uses.add({certain(1, 1), certain(2, 2), certain(1, 3), guess(2, 4, 0.5f)});
  EXPECT_THAT(order(uses), ElementsAre(2, 2));
  uses.set_present(key(2), true);
  uses.set_present(key(1), false);
  EXPECT_THAT(order(uses), ElementsAre(1, 1));
  uses.advance(2);
  EXPECT_THAT(order(uses), ElementsAre(1));
  uses.set_present(key(2), false);
  EXPECT_THAT(order(uses), ElementsAre(2, 1, 2));
  EXPECT_EQ(uses.distance(key(2)), 0.0);
}

TEST(KnownUses, WhatHasPassedOrCannotBeIsLeftOut) {
  KnownUses uses;
  uses.advance(5);
  uses.add({certain(1, 4), guess(2, 6, 0.0f), guess(3, 6, -1.0f), certain(4, 5)});
  EXPECT_THAT(order(uses), ElementsAre(4));
  uses.advance(3);  // Time does not go back.
  EXPECT_EQ(uses.now(), 5u);
}

}  // namespace
}  // namespace pregate::worker
