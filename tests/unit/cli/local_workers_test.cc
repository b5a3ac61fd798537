// The supervisor of worker processes, with shell scripts for workers.
#include "cli/local_workers.h"

#include <csignal>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/scratch_directory.h"

namespace pregate::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Backoff, DoublesUpToALimitAndBeginsAnewAfterAGoodLife) {
  Backoff backoff({.first = milliseconds(500), .max = seconds(3), .good_life = seconds(60)});
  EXPECT_EQ(backoff.next(seconds(1)), milliseconds(500));
  EXPECT_EQ(backoff.next(seconds(1)), seconds(1));
  EXPECT_EQ(backoff.next(seconds(59)), seconds(2));
  EXPECT_EQ(backoff.next(seconds(0)), seconds(3));
  EXPECT_EQ(backoff.next(seconds(0)), seconds(3));
  EXPECT_EQ(backoff.next(seconds(60)), milliseconds(500));
  EXPECT_EQ(backoff.next(seconds(1)), seconds(1));
}

class LocalWorkersTest : public ::testing::Test {
 protected:
  /// A script that knows $lives, a file to which it adds a line.
  LocalProgram script(const std::string& name, const std::string& text) {
    return {.name = name,
            .executable = "/bin/sh",
            .arguments = {"sh", "-c", "lives=" + lives_ + "\n" + text}};
  }
  static LocalWorkersOptions quick() {
    return {.backoff = {.first = milliseconds(20), .max = milliseconds(80)},
            .patience = milliseconds(300),
            .term_patience = milliseconds(300)};
  }
  /// Of those that are to end by themselves when they are termed, however late.
  static LocalWorkersOptions quick_to_term() {
    LocalWorkersOptions options = quick();
    options.term_patience = std::chrono::seconds(60);
    return options;
  }
  size_t num_lines() const {
    std::ifstream file(lives_);
    size_t lines = 0;
    for (std::string line; std::getline(file, line);) ++lines;
    return lines;
  }
  template <typename Condition>
  static bool becomes(const Condition& condition) {
    for (int i = 0; i < 3000 && !condition(); ++i) usleep(10'000);
    return condition();
  }
  static bool is_alive(pid_t pid) { return kill(pid, 0) == 0; }

  const ScratchDirectory directory_;
  const std::string lives_ = (directory_.path() / "lives").string();
};

TEST_F(LocalWorkersTest, OneThatDiesIsStartedAgain) {
  LocalWorkers workers({script("a", "echo x >>$lives; exit 3"),
                        script("b", "trap 'exit 0' TERM; while :; do sleep 0.05; done")},
                       quick());
  workers.start();
  EXPECT_TRUE(becomes([&] { return num_lines() >= 4; }));
  workers.stop();
  const size_t lines = num_lines();
  usleep(200'000);
  EXPECT_EQ(num_lines(), lines);
}

TEST_F(LocalWorkersTest, OneThatIsKilledIsStartedAgain) {
  LocalWorkers workers({script("a", "echo x >>$lives; exec sleep 1000")}, quick());
  workers.start();
  ASSERT_TRUE(becomes([&] { return num_lines() == 1 && workers.pids().size() == 1; }));
  const pid_t first = workers.pids().front();
  kill(first, SIGKILL);
  EXPECT_TRUE(becomes([&] { return num_lines() == 2 && workers.pids().size() == 1; }));
  EXPECT_NE(workers.pids().front(), first);
  EXPECT_FALSE(is_alive(first));
}

TEST_F(LocalWorkersTest, OneThatEndsInOrderStaysAway) {
  LocalWorkers workers({script("a", "echo x >>$lives")}, quick());
  workers.start();
  ASSERT_TRUE(becomes([&] { return num_lines() == 1 && workers.pids().empty(); }));
  usleep(200'000);
  EXPECT_EQ(num_lines(), 1U);
}

TEST_F(LocalWorkersTest, StopWaitsForThoseThatEndOnTheirOwn) {
  LocalWorkers workers({script("a", "sleep 0.2; echo x >>$lives")}, {});
  workers.start();
  ASSERT_TRUE(becomes([&] { return workers.pids().size() == 1 || num_lines() == 1; }));
  workers.stop();
  EXPECT_EQ(num_lines(), 1U);
}

TEST_F(LocalWorkersTest, StopTerms) {
  LocalWorkers workers({script("polite",
                               "trap 'echo x >>$lives; exit 0' TERM\n"
                               "echo x >>$lives\n"
                               "while :; do sleep 0.05; done")},
                       quick_to_term());
  workers.start();
  ASSERT_TRUE(becomes([&] { return num_lines() == 1; }));
  const auto pids = workers.pids();
  workers.stop();
  EXPECT_EQ(num_lines(), 2U);
  for (const pid_t pid : pids) EXPECT_FALSE(is_alive(pid));
}

TEST_F(LocalWorkersTest, StopKillsWhomATermDoesNotEnd) {
  LocalWorkers workers(
      {script("deaf", "trap '' TERM\necho x >>$lives\nwhile :; do sleep 0.1; done")}, quick());
  workers.start();
  ASSERT_TRUE(becomes([&] { return num_lines() == 1; }));
  const auto pids = workers.pids();
  workers.stop();
  for (const pid_t pid : pids) EXPECT_FALSE(is_alive(pid));
}

TEST_F(LocalWorkersTest, AProgramThatIsNotThereIsTriedAgain) {
  LocalWorkers workers({{.name = "none", .executable = "/no/such", .arguments = {"none"}}},
                       quick());
  workers.start();
  usleep(200'000);
  workers.stop();
}

TEST_F(LocalWorkersTest, SignalsAreNotBlockedInChildren) {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, nullptr);
  LocalWorkers workers({script("a", "exec sleep 1000")}, quick_to_term());
  workers.start();
  ASSERT_TRUE(becomes([&] { return workers.pids().size() == 1; }));
  usleep(100'000);
  const TimePoint begin = system_clock().now();
  workers.stop();
  EXPECT_LT(system_clock().now() - begin, seconds(30)) << "it was killed, not termed";
  pthread_sigmask(SIG_UNBLOCK, &term, nullptr);
}

TEST_F(LocalWorkersTest, ChildrenDieWithTheirParent) {
  const pid_t parent = fork();
  if (parent == 0) {
    LocalWorkers workers({script("a", "echo $$ >$lives; exec sleep 1000")}, quick());
    workers.start();
    for (;;) pause();
  }
  const auto child = [&] {
    pid_t pid = 0;
    std::ifstream(lives_) >> pid;
    return pid;
  };
  ASSERT_TRUE(becomes([&] { return child() != 0; }));
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  // Nobody may reap it here, so that a zombie counts as dead too.
  const auto is_dead = [&] {
    std::ifstream stat(fmt::format("/proc/{}/stat", child()));
    std::string pid, name, state;
    return !(stat >> pid >> name >> state) || state == "Z";
  };
  EXPECT_TRUE(becomes(is_dead));
}

}  // namespace
}  // namespace pregate::cli
