#include "base/cores.h"

#include <fstream>

#include <gtest/gtest.h>

#include "tests/support/scratch_directory.h"

namespace pregate {
namespace {

/// A machine of files.
class CpuQuota : public ::testing::Test {
 protected:
  void write(const std::filesystem::path& file, const std::string& text) {
    const auto path = root_.path() / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  double quota() const { return cpu_quota(root_.path()); }

  ScratchDirectory root_;
};

TEST_F(CpuQuota, WithoutGroupsThereIsNone) {
  EXPECT_EQ(quota(), kNoQuota);
  EXPECT_EQ(cpu_quota(root_.path() / "nowhere"), kNoQuota);
}

TEST_F(CpuQuota, VersionTwoLeastOfTheGroupAndThoseAbove) {
  write("proc/self/cgroup", "0::/pod/container\n");
  EXPECT_EQ(quota(), kNoQuota);
  write("sys/fs/cgroup/pod/container/cpu.max", "350000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 3.5);
  write("sys/fs/cgroup/pod/cpu.max", "50000 25000\n");
  EXPECT_DOUBLE_EQ(quota(), 2);
  write("sys/fs/cgroup/pod/cpu.max", "max 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 3.5);
}

TEST_F(CpuQuota, VersionOneOfAContainerThatSeesItsOwnGroupAsTheRoot) {
  write("proc/self/cgroup", "5:cpu,cpuacct:/docker/0123\n4:memory:/docker/0123\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), kNoQuota);
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
  EXPECT_DOUBLE_EQ(quota(), 1.5);
}

TEST_F(CpuQuota, WhatIsNoNumberIsNoQuota) {
  write("proc/self/cgroup", "0::/\nnonsense\n");
  for (const char* text : {"", "max", "max 100000", "100000", "100000 0", "0 100000", "1e5 100000",
                           "-5 100000", "99999999999999999999999 100000"}) {
    write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(quota(), kNoQuota) << text;
  }
}

TEST(Cores, AreWholeAndAtLeastOne) {
  EXPECT_EQ(cores_within(8, kNoQuota), 8u);
  EXPECT_EQ(cores_within(8, 3.9), 3u);
  EXPECT_EQ(cores_within(2, 16), 2u);
  EXPECT_EQ(cores_within(8, 0.25), 1u);
  EXPECT_EQ(cores_within(0, kNoQuota), 1u);
}

TEST(Cores, ThisMachineHasSome) { EXPECT_GE(usable_cores(), 1u); }

}  // namespace
}  // namespace pregate
