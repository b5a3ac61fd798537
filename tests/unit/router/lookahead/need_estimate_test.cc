#include "router/lookahead/need_estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<uint32_t> ids_of(const std::vector<NeedEstimate::Need>& needs) {
  std::vector<uint32_t> ids;
  for (const auto& need : needs) ids.push_back(need.expert.value);
  return ids;
}

TEST(NeedEstimate, OneRowsCandidatesAreItsLikeliest) {
  NeedEstimate needs(4, 2);
  needs.add_row(std::vector{0.1f, 0.75f, 0.2f, 0.95f});
  const auto best = needs.best(10);
  EXPECT_THAT(ids_of(best), ElementsAre(3, 1));
  EXPECT_FLOAT_EQ(best[0].likelihood, 0.95f);
  EXPECT_FLOAT_EQ(best[1].likelihood, 0.75f);
}

TEST(NeedEstimate, RowsAddUpAsIfIndependent) {
  NeedEstimate needs(3, 1);
  needs.add_row(std::vector{0.5f, 0.25f, 0.0f});
  needs.add_row(std::vector{0.25f, 0.5f, 0.0f});
  const auto best = needs.best(10);
  EXPECT_THAT(ids_of(best), ElementsAre(0, 1));  // equal: the lower id first
  EXPECT_FLOAT_EQ(best[0].likelihood, 1.0f - 0.5f * 0.75f);
  EXPECT_FLOAT_EQ(best[1].likelihood, 1.0f - 0.75f * 0.5f);
}

TEST(NeedEstimate, TheLimitKeepsTheLikeliest) {
  NeedEstimate needs(4, 1);
  needs.add_row(std::vector{0.5f, 0.0f, 0.0f, 0.0f});
  needs.add_row(std::vector{0.0f, 0.0f, 0.75f, 0.0f});
  needs.add_row(std::vector{0.0f, 0.0f, 0.0f, 0.25f});
  EXPECT_THAT(ids_of(needs.best(2)), ElementsAre(2, 0));
  EXPECT_THAT(needs.best(0), IsEmpty());
}

TEST(NeedEstimate, WhatNoRowIsLikelyToNeedIsNoCandidate) {
  NeedEstimate needs(3, 2);
  needs.add_row(std::vector{0.0f, 1.5f, 0.0f});
  const auto best = needs.best(10);
  EXPECT_THAT(ids_of(best), ElementsAre(1));
  EXPECT_EQ(best[0].likelihood, 1.0f);
  needs.clear();
  EXPECT_THAT(needs.best(10), IsEmpty());
}

TEST(NeedEstimate, MoreExpertsPerRowThanThereAreIsAllOfThem) {
  NeedEstimate needs(2, 8);
  needs.add_row(std::vector{0.5f, 0.25f});
  EXPECT_THAT(ids_of(needs.best(8)), ElementsAre(0, 1));
}

}  // namespace
}  // namespace pregate::router
