// Time is passed in, so that a whole cluster can run on a simulated clock.
#pragma once

#include <chrono>

namespace pregate {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

/// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
};

/// The machine's monotonic clock.
const Clock& system_clock();

inline double to_seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace pregate
