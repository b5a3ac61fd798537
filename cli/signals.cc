#include "cli/signals.h"

#include <ctime>

#include <pthread.h>

namespace pregate::cli {

Signals::Signals() {
  sigemptyset(&set_);
  sigaddset(&set_, SIGINT);
  sigaddset(&set_, SIGTERM);
  sigaddset(&set_, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  // A peer that closed its socket is told by the write's error.
  std::signal(SIGPIPE, SIG_IGN);
}

std::optional<int> Signals::wait(std::chrono::milliseconds timeout) {
  const timespec wait_for{.tv_sec = timeout.count() / 1000,
                          .tv_nsec = timeout.count() % 1000 * 1'000'000};
  const int signal = sigtimedwait(&set_, nullptr, &wait_for);
  if (signal < 0) return std::nullopt;
  return signal;
}

}  // namespace pregate::cli
