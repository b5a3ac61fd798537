#include "coordinator/dispatch/reply_times.h"

#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

constexpr WorkerId kWorker{1};
constexpr auto kMillisecond = std::chrono::milliseconds(1);

TEST(ReplyTimes, NothingIsUsualBeforeTheFirstAnswer) {
  ReplyTimes times;
  times.note(WorkerId(2), 1, kMillisecond);
  EXPECT_FALSE(times.usual(kWorker, 1));
}

TEST(ReplyTimes, MoreRowsThanUsualTakeLongerInProportion) {
  ReplyTimes times;
  for (int i = 0; i < 10; ++i) times.note(kWorker, 4, 2 * kMillisecond);
  EXPECT_EQ(times.usual(kWorker, 4), 2 * kMillisecond);
  EXPECT_EQ(times.usual(kWorker, 40), 20 * kMillisecond);
}

TEST(ReplyTimes, FewerRowsTakeNoLessBecauseTheNetworkIsTheSame) {
  ReplyTimes times;
  times.note(kWorker, 400, 2 * kMillisecond);
  EXPECT_EQ(times.usual(kWorker, 1), 2 * kMillisecond);
}

TEST(ReplyTimes, OneThatTookLongChangesLittle) {
  ReplyTimes times;
  for (int i = 0; i < 100; ++i) times.note(kWorker, 1, kMillisecond);
  times.note(kWorker, 1, 320 * kMillisecond);
  EXPECT_LT(times.usual(kWorker, 1), 12 * kMillisecond);
}

TEST(ReplyTimes, AWorkerThatHasBecomeSlowerIsBelievedInTime) {
  ReplyTimes times;
  times.note(kWorker, 1, kMillisecond);
  for (int i = 0; i < 200; ++i) times.note(kWorker, 1, 100 * kMillisecond);
  EXPECT_GT(times.usual(kWorker, 1), 99 * kMillisecond);
}

}  // namespace
}  // namespace pregate::coordinator
