// SIGINT, SIGTERM and SIGUSR1 as something main() waits for, instead of handlers. All three mean
// the same: end in an orderly way. SIGUSR1 is there for mpirun, which passes it on to every rank at
// once, but answers SIGTERM by killing the ranks a second or two later.
#pragma once

#include <chrono>
#include <csignal>
#include <optional>

namespace pregate::cli {

/// Make one before any thread is started: threads inherit the blocked signals, so that only wait()
/// sees them.
class Signals {
 public:
  Signals();
  /// The signal that arrived; nothing after `timeout`.
  std::optional<int> wait(std::chrono::milliseconds timeout);

 private:
  sigset_t set_;
};

}  // namespace pregate::cli
