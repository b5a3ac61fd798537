// Progress of long work, for people: a bar on a terminal, a line at each tenth in a log.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "cli/quantity.h"

namespace pregate::cli {

class Progress {
 public:
  struct Output {
    std::string verb = "loading";
    std::string (*describe_total)(size_t) = describe_bytes;
    bool is_terminal = false;
    std::function<void(std::string_view)> draw;  ///< Raw text to the terminal.
    std::function<void(std::string_view)> log;   ///< One line.
  };

  Progress(Output output, const Clock& clock) : output_(std::move(output)), clock_(clock) {}

  /// Standard error, and the process's log where that is no terminal.
  static Output standard_error(std::string verb = "loading");

  /// Thread-safe. A phase begins with the first call that names it and ends at done == total; each
  /// step of it calls this, so it must be cheap.
  void update(const std::string& phase, size_t done, size_t total);

 private:
  void draw_bar(size_t done, size_t total, TimePoint now);
  void log_tenth(size_t done, size_t total, TimePoint now);

  const Output output_;
  const Clock& clock_;

  std::mutex mutex_;  // Guards what follows.
  std::string phase_;
  TimePoint phase_began_{};
  TimePoint last_drawn_{};
  size_t last_tenth_ = 0;
  bool phase_ended_ = true;
};

}  // namespace pregate::cli
