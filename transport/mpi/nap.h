// How a thread that must poll waits without burning a core that another process computes on.
#pragma once

#include <algorithm>
#include <chrono>

#include "base/clock.h"

namespace pregate::transport {

/// Measured with Open MPI 4.1 and five ranks on two cores: 200 polls and then naps of 50 us keep
/// the round trip of a small message at 9 us and its 99th percentile under 60 us. After
/// kShortNapTime without traffic, longer than a decode step leaves a rank alone, naps grow: a rank
/// that hears only heartbeats costs about 2 % of a core.
class NapSchedule {
 public:
  static constexpr int kSpins = 200;
  static constexpr Duration kShortNap = std::chrono::microseconds(50);
  static constexpr Duration kLongNap = std::chrono::milliseconds(2);
  static constexpr Duration kShortNapTime = std::chrono::milliseconds(5);

  void reset() { *this = {}; }

  /// How long to sleep after another poll that found nothing; zero: poll again.
  Duration next() {
    if (spins_ < kSpins) {
      ++spins_;
      return Duration::zero();
    }
    if (napped_ > kShortNapTime) nap_ = std::min(nap_ * 2, kLongNap);
    napped_ += nap_;
    return nap_;
  }

 private:
  int spins_ = 0;
  Duration nap_ = kShortNap;
  Duration napped_ = Duration::zero();
};

}  // namespace pregate::transport
