#include "cli/local_workers.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

namespace pregate::cli {
namespace {

/// How often children are looked at.
constexpr auto kLook = std::chrono::milliseconds(20);

std::string describe_end(int status) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return fmt::format("was killed by signal {} ({})", signal, strsignal(signal));
  }
  return fmt::format("ended with status {}", WEXITSTATUS(status));
}

/// In the child, between fork and exec: nothing here may allocate or lock, as some thread of the
/// parent may have held the lock.
[[noreturn]] void become(const char* executable, char* const* arguments, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
  execv(executable, arguments);
  constexpr char kMessage[] = "pregate: cannot execute a worker\n";
  (void)!write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(127);
}

}  // namespace

Duration Backoff::next(Duration lived) {
  const bool begins = !last_ || lived >= options_.good_life;
  last_ = begins ? options_.first : std::min(*last_ * 2, options_.max);
  return *last_;
}

LocalWorkers::LocalWorkers(std::vector<LocalProgram> programs, LocalWorkersOptions options)
    : options_(options) {
  for (LocalProgram& program : programs) {
    children_.push_back({.program = std::move(program), .backoff = Backoff(options.backoff)});
  }
}

LocalWorkers::~LocalWorkers() { stop(); }

void LocalWorkers::start() {
  thread_ = std::thread([this] { watch(); });
}

void LocalWorkers::expect_end() {
  const std::lock_guard lock(mutex_);
  ending_ = true;
}

void LocalWorkers::watch() {
  std::unique_lock lock(mutex_);
  while (!over_) {
    const TimePoint now = system_clock().now();
    for (Child& child : children_) attend_locked(child, now);
    changed_.notify_all();
    changed_.wait_for(lock, kLook, [this] { return over_; });
  }
}

void LocalWorkers::attend_locked(Child& child, TimePoint now) {
  if (child.pid != 0) {
    int status = 0;
    if (waitpid(child.pid, &status, WNOHANG) == child.pid) note_end_locked(child, status, now);
  } else if (!ending_ && !child.gone && now >= child.start_at) {
    launch_locked(child, now);
  }
}

void LocalWorkers::launch_locked(Child& child, TimePoint now) {
  std::vector<char*> arguments;
  for (std::string& argument : child.program.arguments) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const char* const executable = child.program.executable.c_str();
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) become(executable, arguments.data(), parent);
  child.began = now;
  if (pid < 0) {
    spdlog::error("{} cannot be started: {}", child.program.name, std::strerror(errno));
    child.start_at = now + child.backoff.next({});
    return;
  }
  child.pid = pid;
  spdlog::info("{} started (pid {})", child.program.name, pid);
}

void LocalWorkers::note_end_locked(Child& child, int status, TimePoint now) {
  const pid_t pid = std::exchange(child.pid, 0);
  const bool in_order = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (in_order) child.gone = true;
  if (in_order && !ending_) {
    spdlog::info("{} (pid {}) was sent away, and is not started again", child.program.name, pid);
  }
  if (in_order) return;
  if (ending_) {
    spdlog::warn("{} (pid {}) {}", child.program.name, pid, describe_end(status));
    return;
  }
  const Duration pause = child.backoff.next(now - child.began);
  child.start_at = now + pause;
  spdlog::error("{} (pid {}) {}; starting it again in {:.1f} s", child.program.name, pid,
                describe_end(status), to_seconds(pause));
}

size_t LocalWorkers::num_running_locked() const {
  return static_cast<size_t>(
      std::ranges::count_if(children_, [](const Child& child) { return child.pid != 0; }));
}

bool LocalWorkers::wait_for_end(Duration patience) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [this] { return num_running_locked() == 0; });
}

void LocalWorkers::signal_all(int signal) {
  const std::lock_guard lock(mutex_);
  for (const Child& child : children_) {
    if (child.pid == 0) continue;
    spdlog::warn("{} (pid {}) does not end: sending it {}", child.program.name, child.pid,
                 signal == SIGTERM ? "SIGTERM" : "SIGKILL");
    kill(child.pid, signal);
  }
}

void LocalWorkers::stop() {
  if (!thread_.joinable()) return;
  expect_end();
  if (!wait_for_end(options_.patience)) {
    signal_all(SIGTERM);
    if (!wait_for_end(options_.term_patience)) {
      signal_all(SIGKILL);
      wait_for_end(std::chrono::seconds(5));  // it may hang in the kernel, and is not ours then
    }
  }
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::vector<pid_t> LocalWorkers::pids() const {
  const std::lock_guard lock(mutex_);
  std::vector<pid_t> pids;
  for (const Child& child : children_) {
    if (child.pid != 0) pids.push_back(child.pid);
  }
  return pids;
}

}  // namespace pregate::cli
