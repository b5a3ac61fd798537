#include "transport/mpi/nap.h"

#include <gtest/gtest.h>

namespace pregate::transport {
namespace {

void poll_in_vain(NapSchedule& naps) {
  for (int i = 0; i < NapSchedule::kSpins; ++i) {
    EXPECT_EQ(naps.next(/*moving=*/false, /*rung=*/true), Duration::zero());
  }
}

TEST(NapSchedule, PollsThenNapsLongWhereSendersRing) {
  NapSchedule naps;
  poll_in_vain(naps);
  EXPECT_EQ(naps.next(/*moving=*/false, /*rung=*/true), NapSchedule::kRungNap);
  naps.reset();
  poll_in_vain(naps);
}

TEST(NapSchedule, NapsGrowWhereNobodyRings) {
  NapSchedule naps;
  poll_in_vain(naps);
  const auto nap = [&] {
    const Duration duration = naps.next(/*moving=*/false, /*rung=*/false);
    EXPECT_EQ(naps.next(/*moving=*/false, /*rung=*/false), Duration::zero());
    return duration;
  };
  Duration slept = Duration::zero();
  while (slept <= NapSchedule::kShortNapTime) {
    ASSERT_EQ(nap(), NapSchedule::kShortNap);
    slept += NapSchedule::kShortNap;
  }
  for (int i = 0; i < 10; ++i) nap();
  EXPECT_EQ(nap(), NapSchedule::kLongNap);
}

TEST(NapSchedule, NapsAreShortWhileALargeMessageMoves) {
  NapSchedule naps;
  poll_in_vain(naps);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(naps.next(/*moving=*/true, /*rung=*/true), NapSchedule::kShortNap);
    ASSERT_EQ(naps.next(/*moving=*/true, /*rung=*/true), Duration::zero());
  }
}

}  // namespace
}  // namespace pregate::transport
