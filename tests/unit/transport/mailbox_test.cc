#include "transport/mailbox.h"

#include <gtest/gtest.h>

namespace pregate::transport {
namespace {

struct Sleeper {
  int wakes = 0;
  void wake() { ++wakes; }
};

class MailboxTest : public ::testing::Test {
 protected:
  Mailbox<int, Sleeper> mailbox_;
};

TEST_F(MailboxTest, PostWakesTheOwnThreadOnceIfItSleeps) {
  mailbox_.post(1);
  EXPECT_EQ(mailbox_.own.wakes, 0);
  EXPECT_FALSE(mailbox_.fall_asleep());
  EXPECT_EQ(mailbox_.take().size(), 1u);
  EXPECT_TRUE(mailbox_.fall_asleep());
  mailbox_.post(2);
  mailbox_.post(3);
  EXPECT_EQ(mailbox_.own.wakes, 1);
  mailbox_.awake();
  EXPECT_FALSE(mailbox_.empty());
}

TEST_F(MailboxTest, QueueWakesNobody) {
  EXPECT_TRUE(mailbox_.fall_asleep());
  mailbox_.queue(1);
  EXPECT_EQ(mailbox_.own.wakes, 0);
  EXPECT_EQ(mailbox_.take().size(), 1u);
}

TEST_F(MailboxTest, WhileDrivenTheDriverIsWoken) {
  EXPECT_TRUE(mailbox_.fall_asleep());
  EXPECT_TRUE(mailbox_.begin_drive());
  EXPECT_FALSE(mailbox_.begin_drive());
  EXPECT_TRUE(mailbox_.is_driven());
  EXPECT_TRUE(mailbox_.driver_falls_asleep());
  mailbox_.post(1);
  EXPECT_EQ(mailbox_.driver.wakes, 1);
  EXPECT_EQ(mailbox_.own.wakes, 0);
  mailbox_.driver_awakes();
  EXPECT_FALSE(mailbox_.driver_falls_asleep());
  EXPECT_EQ(mailbox_.take().size(), 1u);
}

TEST_F(MailboxTest, AnInterruptedDriverLooksOnce) {
  mailbox_.interrupt_drive();  // nobody drives
  EXPECT_TRUE(mailbox_.begin_drive());
  mailbox_.interrupt_drive();
  EXPECT_FALSE(mailbox_.driver_falls_asleep());
  EXPECT_TRUE(mailbox_.driver_falls_asleep());
  mailbox_.interrupt_drive();
  EXPECT_EQ(mailbox_.driver.wakes, 1);
}

TEST_F(MailboxTest, WorkThatADriverLeavesIsTheOwnThreads) {
  for (const bool more : {false, true}) {
    mailbox_.own.wakes = 0;
    EXPECT_TRUE(mailbox_.fall_asleep());
    EXPECT_TRUE(mailbox_.begin_drive());
    mailbox_.end_drive(more);
    EXPECT_EQ(mailbox_.own.wakes, more ? 1 : 0);
    mailbox_.awake();
  }
  EXPECT_TRUE(mailbox_.fall_asleep());
  EXPECT_TRUE(mailbox_.begin_drive());
  mailbox_.queue(1);
  mailbox_.end_drive(/*more=*/false);
  EXPECT_EQ(mailbox_.own.wakes, 2);
}

TEST(DriveEnd, IsReachedOnceTheTimeIsOverAndNothingIsLeftToDo) {
  EXPECT_FALSE(DriveEnd(TimePoint::max()).is_reached(/*was_busy=*/false));
  EXPECT_TRUE(DriveEnd(TimePoint::min()).is_reached(/*was_busy=*/false));
}

TEST(DriveEnd, IsReachedInTheEndWhereThereIsAlwaysMoreToDo) {
  DriveEnd end(TimePoint::min());
  int turns = 1;
  while (!end.is_reached(/*was_busy=*/true) && turns < 1000) ++turns;
  EXPECT_GT(turns, 1);
  EXPECT_LT(turns, 100);
}

}  // namespace
}  // namespace pregate::transport
