#include "base/random.h"

#include <cmath>

#include <gtest/gtest.h>

namespace pregate {
namespace {

TEST(Random, TheSameSeedGivesTheSameNumbersEverywhere) {
  // The 10,000th number of a default-seeded std::mt19937_64, as the C++ standard states it.
  Random random(5489);
  uint64_t last = 0;
  for (int i = 0; i < 10000; ++i) last = random.next_u64();
  EXPECT_EQ(last, 9981545732273789042ull);
}

TEST(Random, BelowStaysBelowAndReachesAll) {
  Random random(1);
  int counts[7] = {};
  for (int i = 0; i < 7000; ++i) ++counts[random.next_below(7)];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 200);
}

TEST(Random, NormalHasMeanZeroAndVarianceOne) {
  Random random(2);
  double sum = 0, squares = 0;
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.next_normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.02);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.02);
}

}  // namespace
}  // namespace pregate
