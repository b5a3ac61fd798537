#include "compute/cpu/vector.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace pregate::compute::cpu {
namespace {

using F32 = Vectors<4>::F32;

float exp_of(float x) { return exp<4>(broadcast<F32>(x))[0]; }

TEST(VectorExp, IsWithinTwoUnitsInTheLastPlace) {
  for (float x = -87.3f; x <= 88.3f; x += 1.7e-4f) {
    const double exact = std::exp(static_cast<double>(x));
    const auto nearest = static_cast<float>(exact);
    const double unit = static_cast<double>(std::nextafter(nearest, INFINITY)) - nearest;
    ASSERT_LE(std::fabs(exp_of(x) - exact), 2 * unit) << x;
  }
}

TEST(VectorExp, IsOneAtZero) {
  EXPECT_EQ(exp_of(0.0f), 1.0f);
  EXPECT_EQ(exp_of(-0.0f), 1.0f);
}

TEST(VectorExp, EndsInZeroAndInALargeNumber) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(-infinity), 0.0f);
  EXPECT_EQ(exp_of(-100.0f), 0.0f);
  EXPECT_EQ(exp_of(std::numeric_limits<float>::lowest()), 0.0f);
  EXPECT_EQ(exp_of(infinity), exp_of(88.3f));
  EXPECT_TRUE(std::isfinite(exp_of(infinity)));
}

TEST(VectorExp, KeepsNaN) { EXPECT_TRUE(std::isnan(exp_of(std::nanf("")))); }

TEST(VectorExp, LanesAreApart) {
  const F32 x = {-200.0f, 0.0f, 1.0f, std::nanf("")};
  const F32 y = exp<4>(x);
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(y[1], 1.0f);
  EXPECT_EQ(y[2], exp_of(1.0f));
  EXPECT_TRUE(std::isnan(y[3]));
}

}  // namespace
}  // namespace pregate::compute::cpu
