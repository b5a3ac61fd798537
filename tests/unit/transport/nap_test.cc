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
  Duration slept = Duration::zero();
  while (slept <= NapSchedule::kShortNapTime) {
    EXPECT_EQ(naps.next(/*moving=*/false, /*rung=*/false), NapSchedule::kShortNap);
    slept += NapSchedule::kShortNap;
  }
  for (int i = 0; i < 10; ++i) naps.next(/*moving=*/false, /*rung=*/false);
  EXPECT_EQ(naps.next(/*moving=*/false, /*rung=*/false), NapSchedule::kLongNap);
}

TEST(NapSchedule, NapsAreShortWhileALargeMessageMoves) {
  NapSchedule naps;
  poll_in_vain(naps);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(naps.next(/*moving=*/true, /*rung=*/true), NapSchedule::kShortNap);
  }
}

}  // namespace
}  // namespace pregate::transport
