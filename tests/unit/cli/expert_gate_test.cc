#include "cli/expert_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

const Status kMissing = fail(ErrorCode::kUnavailable, "3 experts are missing");

TEST(ExpertGate, RequestsWaitAsLongAsTheyMayAndAreRefusedThen) {
  ExpertGate gate(seconds(60));
  const TimePoint begin;
  EXPECT_TRUE(gate.check(begin));
  gate.update(kMissing, begin);
  EXPECT_TRUE(gate.check(begin + seconds(60)));
  gate.update(kMissing, begin + seconds(61));
  const Status refused = gate.check(begin + seconds(61));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("3 experts are missing (for 61 s now)"));
}

TEST(ExpertGate, OpensAgainAndCountsAnew) {
  ExpertGate gate(seconds(10));
  const TimePoint begin;
  gate.update(kMissing, begin);
  EXPECT_FALSE(gate.check(begin + seconds(11)));
  gate.update({}, begin + seconds(12));
  EXPECT_TRUE(gate.check(begin + seconds(12)));
  gate.update(kMissing, begin + seconds(13));
  EXPECT_TRUE(gate.check(begin + seconds(20)));
}

}  // namespace
}  // namespace pregate::cli
