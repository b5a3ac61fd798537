#include "router/lookahead/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/step_rows.h"

namespace pregate::router {
namespace {

using test_support::StepRows;
using test_support::words_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const MoeLayers kMoe{4, {LayerIdx(1), LayerIdx(3)}, 8, 1};

/// Two windows, which begin alike: 9 8 7 and 9 8 6 5. Experts count up, window by window.
RoutingTrace trace() {
  TraceRecorder recorder({1, 3}, 8, 1);
  recorder.begin_window(std::vector<TokenId>{9, 8, 7});
  recorder.record(LayerIdx(1), test_support::decide(1, {0, 1, 2}));
  recorder.record(LayerIdx(3), test_support::decide(1, {1, 2, 3}));
  recorder.begin_window(std::vector<TokenId>{9, 8, 6, 5});
  recorder.record(LayerIdx(1), test_support::decide(1, {0, 1, 4, 5}));
  recorder.record(LayerIdx(3), test_support::decide(1, {1, 2, 5, 6}));
  return recorder.trace();
}

class ReplayTest : public testing::Test {
 protected:
  std::vector<std::string> begin(const std::vector<TokenId>& tokens, size_t position,
                                 uint32_t block = 0) {
    StepRows rows;
    rows.add(tokens, position, block);
    Plan plan;
    lookahead_->begin_step(rows.view(), 4 * step_++, plan);
    return words_of(plan);
  }

  std::unique_ptr<ReplayLookahead> lookahead_ = ReplayLookahead::create(trace(), kMoe).value();
  LayerTime step_ = 1;
};

TEST_F(ReplayTest, SaysAStepOfAWindow) {
  EXPECT_THAT(begin({9, 8, 7}, 0),
              ElementsAre("1:0@5!", "1:1@5!", "1:2@5!", "3:1@7!", "3:2@7!", "3:3@7!"));
}

TEST_F(ReplayTest, FollowsASequenceTokenByToken) {
  EXPECT_THAT(begin({9}, 0), ElementsAre("1:0@5!", "3:1@7!"));
  EXPECT_THAT(begin({8}, 1), ElementsAre("1:1@9!", "3:2@11!"));
  EXPECT_THAT(begin({6}, 2), ElementsAre("1:4@13!", "3:5@15!"));
  EXPECT_THAT(begin({5}, 3), ElementsAre("1:5@17!", "3:6@19!"));
  EXPECT_THAT(begin({5}, 4), IsEmpty());  // the window is over
}

TEST_F(ReplayTest, AStepMayBeComputedAgain) {
  begin({9, 8}, 0);
  const auto before = begin({7}, 2);
  EXPECT_THAT(before, ElementsAre("1:2@9!", "3:3@11!"));
  EXPECT_THAT(begin({7}, 2), ElementsAre("1:2@13!", "3:3@15!"));
}

TEST_F(ReplayTest, OtherTokensAreUnknown) {
  EXPECT_THAT(begin({9, 5}, 0), IsEmpty());
  EXPECT_THAT(begin({8}, 2), IsEmpty());
  EXPECT_THAT(begin({8}, 1, 77), IsEmpty());  // its beginning was not seen
}

TEST_F(ReplayTest, RowsThatDropOutBringNothingNew) {
  begin({9, 8, 7}, 0);
  StepRows rows;
  rows.add(std::vector<TokenId>{9}, 0, 3);
  Plan plan;
  lookahead_->begin_step(rows.view(), 4 + 2, plan);
  EXPECT_THAT(plan, IsEmpty());
}

TEST(Replay, TheTraceMustBeOfTheModel) {
  for (const MoeLayers& other : {MoeLayers{4, {LayerIdx(1), LayerIdx(2)}, 8, 1},
                                 MoeLayers{4, {LayerIdx(1), LayerIdx(3)}, 9, 1}}) {
    const auto made = ReplayLookahead::create(trace(), other);
    ASSERT_FALSE(made);
    EXPECT_THAT(made.error().message, HasSubstr("8 experts in each of 2 layers"));
  }
}

}  // namespace
}  // namespace pregate::router
