#include "transport/mpi/bell.h"

#include <new>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pregate::transport {
namespace {

/// Longer than any test takes: a wait that ends by it has failed.
constexpr auto kLong = std::chrono::minutes(5);

class BellTest : public ::testing::Test {
 protected:
  void SetUp() override {
    void* const memory = ::mmap(nullptr, sizeof(BellMemory), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    memory_ = new (memory) BellMemory{};
  }
  void TearDown() override { ::munmap(memory_, sizeof(BellMemory)); }

  Bell bell() { return Bell(*memory_); }

  BellMemory* memory_ = nullptr;
};

TEST_F(BellTest, EndsAWaitThatBeginsLater) {
  const uint32_t rings = bell().rings();
  bell().wake();
  EXPECT_TRUE(bell().wait(rings, kLong));
  EXPECT_FALSE(bell().wait(bell().rings(), std::chrono::milliseconds(1)));
}

TEST_F(BellTest, WaitsAsLongAsItIsTold) {
  const auto begin = system_clock().now();
  EXPECT_FALSE(bell().wait(0, std::chrono::milliseconds(20)));
  EXPECT_GE(system_clock().now() - begin, std::chrono::milliseconds(20));
  EXPECT_FALSE(bell().wait(0, Duration::zero()));
}

TEST_F(BellTest, WakesAnotherProcess) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(bell().wait(0, kLong) ? 0 : 1);
  // Not before it sleeps, so that it takes a wake-up to end it.
  while (memory_->sleepers == 0) ::usleep(100);
  ::usleep(10'000);
  bell().wake();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(memory_->sleepers, 0u);
}

}  // namespace
}  // namespace pregate::transport
