#include "base/memory.h"

#include <fstream>

#include <gtest/gtest.h>

#include "tests/support/scratch_directory.h"

namespace pregate {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

/// A machine of files, with 1000 MiB free.
class Memory : public ::testing::Test {
 protected:
  Memory() { write("proc/meminfo", "MemTotal: 4096000 kB\nMemAvailable:    1024000 kB\n"); }

  void write(const std::filesystem::path& file, const std::string& text) {
    const auto path = root_.path() / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void write_mib(const std::filesystem::path& file, uint64_t mib) {
    write(file, std::to_string(mib * kMiB) + "\n");
  }
  uint64_t available_mib() const { return available_memory_bytes(root_.path()) / kMiB; }

  ScratchDirectory root_;
};

TEST_F(Memory, IsWhatTheMachineHasFree) { EXPECT_EQ(available_mib(), 1000u); }

TEST_F(Memory, VersionTwoLimitsCountFromTheGroupUpwards) {
  write("proc/self/cgroup", "0::/pod/container\n");
  write_mib("sys/fs/cgroup/pod/container/memory.max", 800);
  write_mib("sys/fs/cgroup/pod/container/memory.current", 100);
  EXPECT_EQ(available_mib(), 700u);
  write_mib("sys/fs/cgroup/pod/memory.max", 900);
  write_mib("sys/fs/cgroup/pod/memory.current", 500);
  EXPECT_EQ(available_mib(), 400u);
  write("sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file " + std::to_string(200 * kMiB));
  EXPECT_EQ(available_mib(), 600u);
  write("sys/fs/cgroup/pod/memory.max", "max\n");
  EXPECT_EQ(available_mib(), 700u);
}

TEST_F(Memory, AContainerSeesItsOwnGroupAsTheRoot) {
  write("proc/self/cgroup", "4:cpu,memory:/docker/0123\n0::/\n");
  write_mib("sys/fs/cgroup/memory/memory.limit_in_bytes", 300);
  write_mib("sys/fs/cgroup/memory/memory.usage_in_bytes", 200);
  write("sys/fs/cgroup/memory/memory.stat",
        "inactive_file 1\ntotal_inactive_file " + std::to_string(50 * kMiB) + "\n");
  EXPECT_EQ(available_mib(), 150u);
}

TEST_F(Memory, OverTheLimitThereIsNone) {
  write("proc/self/cgroup", "0::/\n");
  write_mib("sys/fs/cgroup/memory.max", 100);
  write_mib("sys/fs/cgroup/memory.current", 120);
  EXPECT_EQ(available_mib(), 0u);
}

TEST_F(Memory, UnknownIsNone) {
  EXPECT_EQ(available_memory_bytes(root_.path() / "nowhere"), 0u);
  write("proc/meminfo", "MemAvailable: many kB\n");
  EXPECT_EQ(available_mib(), 0u);
}

TEST(MemoryReserve, IsATenthWithinBounds) {
  EXPECT_EQ(less_reserve(100 * 1024 * kMiB), 90 * 1024 * kMiB);
  EXPECT_EQ(less_reserve(2048 * kMiB), 1536 * kMiB);
  EXPECT_EQ(less_reserve(600 * kMiB), 300 * kMiB);
  EXPECT_EQ(less_reserve(0), 0u);
}

TEST(MemoryReserve, ThisMachineHasSome) { EXPECT_GT(available_memory_bytes(), kMiB); }

}  // namespace
}  // namespace pregate
