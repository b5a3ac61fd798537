#include "base/bounded_queue.h"

#include <memory>
#include <thread>

#include <gtest/gtest.h>

namespace pregate {
namespace {

TEST(BoundedQueue, RefusesWhenFullAndKeepsTheItem) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(queue.try_push(std::move(second)));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(**queue.try_pop(), 1);
  EXPECT_TRUE(queue.try_push(std::move(second)));
}

TEST(BoundedQueue, DrainsAfterClose) {
  BoundedQueue<int> queue(4);
  queue.try_push(1);
  queue.try_push(2);
  queue.close();
  EXPECT_FALSE(queue.try_push(3));
  EXPECT_EQ(queue.pop_for(std::chrono::seconds(10)), 1);
  EXPECT_EQ(queue.pop_for(std::chrono::seconds(10)), 2);
  EXPECT_EQ(queue.pop_for(std::chrono::seconds(10)), std::nullopt);
}

TEST(BoundedQueue, PopTimesOut) {
  BoundedQueue<int> queue(1);
  EXPECT_EQ(queue.pop_for(std::chrono::milliseconds(1)), std::nullopt);
}

TEST(BoundedQueue, HandsItemsToAnotherThreadInOrder) {
  BoundedQueue<int> queue(8);
  std::jthread producer([&] {
    for (int i = 0; i < 1000;) {
      int item = i;
      if (queue.try_push(std::move(item))) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
    queue.close();
  });
  int expected = 0;
  while (const auto item = queue.pop_for(std::chrono::seconds(10))) EXPECT_EQ(*item, expected++);
  EXPECT_EQ(expected, 1000);
}

}  // namespace
}  // namespace pregate
