// Time and chance of a simulated cluster: events in the order of their time, all of it from a seed.
#pragma once

#include <functional>
#include <map>

#include "base/clock.h"
#include "base/random.h"

namespace pregate::simulation {

/// Single-threaded. The clock stands still while an event runs.
class World final : public Clock {
 public:
  explicit World(uint64_t seed) : random_(seed) {}

  TimePoint now() const override { return now_; }
  Random& random() { return random_; }
  /// Uniform in [from, to].
  Duration between(Duration from, Duration to) {
    return from + Duration(static_cast<int64_t>(
                      random_.next_below(static_cast<uint64_t>((to - from).count()) + 1)));
  }
  bool happens(double probability) { return random_.next_double() < probability; }

  /// Of events of one time, the one that was added first runs first.
  void at(TimePoint time, std::function<void()> event) {
    events_.emplace(std::max(time, now_), std::move(event));
  }
  void after(Duration delay, std::function<void()> event) { at(now_ + delay, std::move(event)); }

  /// Runs the next event, if there is one until `limit`; else it is `limit`.
  bool step(TimePoint limit) {
    const auto next = events_.begin();
    if (next == events_.end() || next->first > limit) {
      now_ = std::max(now_, limit);
      return false;
    }
    now_ = next->first;
    const auto event = std::move(next->second);
    events_.erase(next);
    event();
    return true;
  }
  void run_until(TimePoint limit) {
    while (step(limit)) {
    }
  }

 private:
  Random random_;
  // Not zero, which means "never" in some places.
  TimePoint now_{std::chrono::hours(1)};
  std::multimap<TimePoint, std::function<void()>> events_;
};

}  // namespace pregate::simulation
