#include "router/lookahead/pregate_lookahead.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/step_rows.h"

namespace pregate::router {
namespace {

using test_support::words_of;
using testing::ElementsAre;
using testing::IsEmpty;

struct FixedRouter final : Router {
  std::span<const ExpertId> decided(LayerIdx) const override { return experts; }
  void route(LayerIdx, compute::Matrix<const float>, Decisions&) override {}
  std::vector<ExpertId> experts;
};

Plan begin(Lookahead& lookahead, LayerTime now) {
  Plan plan;
  lookahead.begin_step({}, now, plan);
  return plan;
}

const MoeLayers kMoe{3, {LayerIdx(0), LayerIdx(2)}, 8, 1};

TEST(PregateLookahead, SaysEachExpertOfEachLayerOnceWhenAStepBegins) {
  FixedRouter router;
  PregateLookahead lookahead(router, kMoe);
  router.experts = {ExpertId(6), ExpertId(2), ExpertId(6)};
  EXPECT_THAT(words_of(begin(lookahead, 12)),
              ElementsAre("0:2@12!", "0:6@12!", "2:2@14!", "2:6@14!"));
  router.experts = {ExpertId(1)};
  EXPECT_THAT(words_of(begin(lookahead, 15)), ElementsAre("0:1@15!", "2:1@17!"));
}

TEST(PregateLookahead, RowsThatDropOutBringNothingNew) {
  FixedRouter router;
  PregateLookahead lookahead(router, kMoe);
  router.experts = {ExpertId(6), ExpertId(2)};
  begin(lookahead, 12);
  router.experts = {ExpertId(2)};
  EXPECT_THAT(begin(lookahead, 13), IsEmpty());
  EXPECT_THAT(begin(lookahead, 14), IsEmpty());
  EXPECT_THAT(words_of(begin(lookahead, 15)), ElementsAre("0:2@15!", "2:2@17!"));
}

TEST(PregateLookahead, IsSilentWhereTheRouterDecidesLayerByLayer) {
  FixedRouter router;
  PregateLookahead lookahead(router, kMoe);
  EXPECT_THAT(begin(lookahead, 3), IsEmpty());
}

}  // namespace
}  // namespace pregate::router
