// Worker processes on this machine: started, started again when one dies, and ended.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/types.h>

#include "base/clock.h"
#include "base/result.h"

namespace pregate::cli {

/// How long to wait before a process is started again.
class Backoff {
 public:
  struct Options {
    Duration first = std::chrono::milliseconds(500);
    Duration max = std::chrono::seconds(30);
    Duration good_life = std::chrono::minutes(1);  ///< After such a life it begins anew.
  };
  explicit Backoff(const Options& options) : options_(options) {}

  /// After a life of `lived`.
  Duration next(Duration lived);

 private:
  const Options options_;
  std::optional<Duration> last_;
};

struct LocalProgram {
  std::string name;  ///< For the log.
  std::string executable;
  std::vector<std::string> arguments;  ///< The first is what the process is to call itself.
};

struct LocalWorkersOptions {
  Backoff::Options backoff;
  /// In stop(): for ending on their own, and after SIGTERM.
  Duration patience = std::chrono::seconds(5);
  Duration term_patience = std::chrono::seconds(5);
};

/// A process that ends with status 0 was sent away, and is not started again. Children are in
/// process groups of their own, so that ^C is for this process alone, and die when it dies in
/// whatever way.
class LocalWorkers {
 public:
  LocalWorkers(std::vector<LocalProgram> programs, LocalWorkersOptions options);
  /// stop().
  ~LocalWorkers();

  void start();
  /// From now on none is started.
  void expect_end();
  /// Waits for their end, for a bounded time, and then makes them. Says nothing if all ended well.
  void stop();
  /// Of those that run, in the order of the programs; for tests.
  std::vector<pid_t> pids() const;

 private:
  struct Child {
    LocalProgram program;
    Backoff backoff;
    pid_t pid = 0;      // 0: does not run
    bool gone = false;  // for good
    TimePoint began;
    TimePoint start_at;
  };

  void watch();
  void attend_locked(Child& child, TimePoint now);
  void launch_locked(Child& child, TimePoint now);
  void note_end_locked(Child& child, int status, TimePoint now);
  bool wait_for_end(Duration patience);
  void signal_all(int signal);
  size_t num_running_locked() const;

  const LocalWorkersOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Child> children_;  // guarded by mutex_
  bool ending_ = false;          // guarded by mutex_
  bool over_ = false;            // guarded by mutex_
  std::thread thread_;           // whose end would be the end of its children
};

}  // namespace pregate::cli
