#include "base/ids.h"

#include <type_traits>
#include <unordered_set>

#include <gtest/gtest.h>

namespace pregate {
namespace {

static_assert(!std::is_convertible_v<WorkerId, ExpertId>);
static_assert(!std::is_convertible_v<uint32_t, WorkerId>);
static_assert(!std::is_convertible_v<WorkerId, uint32_t>);

TEST(StrongId, ComparesHashesAndPrints) {
  EXPECT_LT(WorkerId(1), WorkerId(2));
  EXPECT_EQ(fmt::format("{}", ExpertId(7)), "7");
  const std::unordered_set<RequestId> set{RequestId(1), RequestId(1), RequestId(2)};
  EXPECT_EQ(set.size(), 2u);
}

}  // namespace
}  // namespace pregate
