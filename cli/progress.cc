#include "cli/progress.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"

namespace pregate::cli {
namespace {

constexpr size_t kBarColumns = 30;
constexpr auto kRedraw = std::chrono::milliseconds(100);  // Faster than this nobody can read.

double fraction_of(size_t done, size_t total) {
  return total == 0 ? 1.0 : static_cast<double>(std::min(done, total)) / static_cast<double>(total);
}

}  // namespace

Progress::Output Progress::standard_error(std::string verb) {
  return {.verb = std::move(verb),
          .is_terminal = ::isatty(STDERR_FILENO) == 1,
          .draw =
              [](std::string_view text) {
                std::fwrite(text.data(), 1, text.size(), stderr);
                std::fflush(stderr);
              },
          .log = [](std::string_view line) { spdlog::info("{}", line); }};
}

void Progress::update(const std::string& phase, size_t done, size_t total) {
  const TimePoint now = clock_.now();
  std::lock_guard lock(mutex_);
  if (phase != phase_) {
    phase_ = phase;
    phase_began_ = now;
    last_drawn_ = {};
    last_tenth_ = 0;
    phase_ended_ = false;
  }
  if (phase_ended_) return;
  phase_ended_ = done >= total;
  if (output_.is_terminal) {
    draw_bar(done, total, now);
  } else {
    log_tenth(done, total, now);
  }
}

void Progress::draw_bar(size_t done, size_t total, TimePoint now) {
  if (!phase_ended_ && last_drawn_ != TimePoint{} && now - last_drawn_ < kRedraw) return;
  last_drawn_ = now;
  const double fraction = fraction_of(done, total);
  const auto filled = static_cast<size_t>(fraction * kBarColumns);
  // \033[K clears what a longer line left behind.
  output_.draw(fmt::format("\r{} {} [{:#<{}}{:.<{}}] {:3.0f} % of {}, {:.1f} s\033[K{}",
                           output_.verb, phase_, "", filled, "", kBarColumns - filled,
                           fraction * 100, output_.describe_total(total),
                           to_seconds(now - phase_began_), phase_ended_ ? "\n" : ""));
}

void Progress::log_tenth(size_t done, size_t total, TimePoint now) {
  const auto tenth = static_cast<size_t>(fraction_of(done, total) * 10);
  if (tenth <= last_tenth_) return;
  last_tenth_ = tenth;
  output_.log(fmt::format("{} {}: {} % of {} after {:.1f} s", output_.verb, phase_, tenth * 10,
                          output_.describe_total(total), to_seconds(now - phase_began_)));
}

}  // namespace pregate::cli
