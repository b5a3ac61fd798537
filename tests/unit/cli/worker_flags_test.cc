// The flags of `pregate worker`.
#include <optional>

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/run_worker.h"
#include "cli/worker.h"
#include "tests/support/scratch_directory.h"

namespace pregate::cli {
namespace {

using testing::HasSubstr;

class WorkerFlags : public testing::Test {
 protected:
  /// With flags that have their defaults each time.
  int run(std::vector<std::string> more) {
    CLI::App app("Test program", "pregate");
    const std::vector<Command> commands = {add_worker(app, [this](const WorkerOptions& options) {
      options_ = options;
      return Status();
    })};
    std::vector<std::string> arguments = {"worker", "--model", "m"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    testing::internal::CaptureStderr();
    const int code =
        run_command(app, commands, arguments, [](const std::string&) { return std::nullopt; });
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }

  std::optional<WorkerOptions> options_;
  std::string errors_;
};

TEST_F(WorkerFlags, WithoutJoinItIsARankOfMpi) {
  ASSERT_EQ(run({}), kExitOk) << errors_;
  EXPECT_TRUE(options_->join.address.empty());
  EXPECT_EQ(options_->memory_bytes, 0u);
}

TEST_F(WorkerFlags, AreRead) {
  ASSERT_EQ(run({"--join", "[::1]:7000", "--name", "worker-1", "--secret-file", "s", "--memory",
                 "2G", "--drain-timeout", "5s"}),
            kExitOk)
      << errors_;
  EXPECT_EQ(options_->join.address, "[::1]:7000");
  EXPECT_EQ(options_->join.name, "worker-1");
  EXPECT_EQ(options_->join.secret_file, "s");
  EXPECT_EQ(options_->memory_bytes, uint64_t{2} << 30);
  EXPECT_EQ(options_->drain_timeout, std::chrono::seconds(5));
}

TEST_F(WorkerFlags, JoiningNeedsASecret) {
  EXPECT_EQ(run({"--join", "host:7000"}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr("--join host:7000: --secret-file is needed"));
}

TEST_F(WorkerFlags, ASecretAloneIsAMistake) {
  EXPECT_EQ(run({"--secret-file", "s"}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr("--secret-file is for workers that join over the network"));
}

TEST_F(WorkerFlags, AddressesHaveHostAndPort) {
  for (const char* address :
       {"host", "host:", ":7000", "host:0", "host:70000", "host:7000x", "::1:7000", "host:-1"}) {
    EXPECT_EQ(run({"--join", address, "--secret-file", "s"}), kExitFailed) << address;
    EXPECT_THAT(errors_, HasSubstr(std::string("--join ") + address + ": expected HOST:PORT"));
  }
}

TEST_F(WorkerFlags, NamesAreOfPlainLetters) {
  EXPECT_EQ(run({"--join", "host:7000", "--secret-file", "s", "--name", "a worker"}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr("--name a worker: expected 1 to 128 letters"));
}

class RunWorker : public testing::Test {
 protected:
  RunWorker() {
    options_.model.model = folder_.path() / "model";
    options_.join = {"127.0.0.1:1", "w", folder_.path() / "secret"};
  }
  std::string error() {
    const Status status = run_worker(options_);
    return status ? "" : status.error().message;
  }

  ScratchDirectory folder_;
  WorkerOptions options_;
};

TEST_F(RunWorker, NamesAMissingSecret) {
  EXPECT_THAT(error(), HasSubstr((folder_.path() / "secret").string()));
}

TEST_F(RunWorker, NamesAMissingModel) {
  folder_.write("secret", "0123456789abcdef0123456789abcdef");
  std::filesystem::permissions(folder_.path() / "secret", std::filesystem::perms::owner_read);
  const std::string message = error();
  // A build without UCX says so first.
  EXPECT_THAT(message, testing::AnyOf(HasSubstr((folder_.path() / "model").string()),
                                      HasSubstr("this build has no UCX")));
}

}  // namespace
}  // namespace pregate::cli
