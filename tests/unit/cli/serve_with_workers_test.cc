#include "cli/serve_with_workers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/mapped_file.h"
#include "cli/private_directory.h"

namespace pregate::cli {
namespace {

using testing::Contains;
using testing::Not;

TEST(ServeWithWorkers, CoresAreDivided) {
  ServeOptions options;
  options.num_workers = 4;
  EXPECT_EQ(threads_of_each(options, 16), 4U);
  EXPECT_EQ(threads_of_each(options, 2), 1U);
  options.model.num_threads = 3;
  EXPECT_EQ(threads_of_each(options, 16), 3U);
}

TEST(ServeWithWorkers, MemoryIsDividedOnceTheCacheHasItsShare) {
  constexpr uint64_t kGibibyte = uint64_t{1} << 30;
  ServeOptions options;
  options.num_workers = 4;
  options.batching.kv_cache_bytes = 2 * kGibibyte;
  EXPECT_EQ(memory_of_each(options, 20 * kGibibyte), 4 * kGibibyte);
  options.batching.kv_cache_bytes = 100 * kGibibyte;
  EXPECT_EQ(memory_of_each(options, 20 * kGibibyte), 9 * kGibibyte / 4);
  EXPECT_EQ(memory_of_each(options, 0), 0U);
}

std::string value_of(const LocalProgram& program, const std::string& flag) {
  const auto& arguments = program.arguments;
  const auto found = std::ranges::find(arguments, flag);
  return found == arguments.end() || found + 1 == arguments.end() ? "" : *(found + 1);
}

TEST(ServeWithWorkers, WorkersAreToldWhatTheyNeed) {
  ServeOptions options;
  options.num_workers = 2;
  options.model.model = "m";
  options.model.weights = compute::WeightFormat::kQ8;
  options.model.num_threads = 3;
  options.metrics.metrics_port = 9100;
  const auto programs = worker_programs(options, {.address = "127.0.0.1:7000",
                                                  .secret_file = "/tmp/secret",
                                                  .memory_bytes = uint64_t{3} << 30});
  ASSERT_EQ(programs.size(), 2U);
  EXPECT_EQ(programs[1].name, "worker-2");
  EXPECT_EQ(programs[1].arguments[1], "worker");
  EXPECT_EQ(value_of(programs[1], "--join"), "127.0.0.1:7000");
  EXPECT_EQ(value_of(programs[1], "--name"), "worker-2");
  EXPECT_EQ(value_of(programs[1], "--secret-file"), "/tmp/secret");
  EXPECT_EQ(value_of(programs[1], "--model"), "m");
  EXPECT_EQ(value_of(programs[1], "--memory"), "3G");
  EXPECT_EQ(value_of(programs[1], "--weights"), "q8");
  EXPECT_EQ(value_of(programs[1], "--threads"), "3");
  EXPECT_EQ(value_of(programs[0], "--metrics-port"), "9100");
  EXPECT_EQ(value_of(programs[1], "--metrics-port"), "9101");
  EXPECT_THAT(programs[1].arguments, Not(Contains("--config")));
}

TEST(ServeWithWorkers, WorkersKeepExpertsOnDiskWhereMemoryIsGivenForThem) {
  ServeOptions options;
  options.num_workers = 1;
  EXPECT_EQ(value_of(worker_programs(options, {})[0], "--expert-memory"), "");
  options.memory = {.memory_bytes = uint64_t{2} << 30,
                    .eviction = "lfu",
                    .io = ExpertIo::kDirect,
                    .num_loaders = 2};
  const auto programs = worker_programs(options, {});
  EXPECT_EQ(value_of(programs[0], "--expert-memory"), "2G");
  EXPECT_EQ(value_of(programs[0], "--expert-eviction"), "lfu");
  EXPECT_EQ(value_of(programs[0], "--expert-io"), "direct");
  EXPECT_EQ(value_of(programs[0], "--expert-loaders"), "2");
  EXPECT_EQ(memory_of_each(options, uint64_t{20} << 30), 0U);
}

TEST(PrivateDirectoryTest, IsForItsOwnerAndGoesAway) {
  std::filesystem::path path;
  {
    const auto directory = PrivateDirectory::create();
    ASSERT_TRUE(directory) << directory.error().message;
    path = directory->path();
    const auto file = directory->write("secret", "text");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(read_file(*file).value(), "text");
    struct stat about {};
    ASSERT_EQ(stat(file->c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777, 0600U);
    ASSERT_EQ(stat(path.c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777, 0700U);
    EXPECT_FALSE(directory->write("secret", "again"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace pregate::cli
