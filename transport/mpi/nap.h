// How a thread that must poll waits without burning a core that another process computes on.
#pragma once

#include <algorithm>
#include <chrono>

#include <sys/prctl.h>

#include "base/clock.h"

namespace pregate::transport {

/// Polls a little, as an answer is often there sooner than it takes to sleep and wake, and then
/// naps. Of ranks that do not ring (host.h), measured with Open MPI 4.1 and five ranks on two
/// cores: naps of 50 us keep the round trip of a small message at 9 us and its 99th percentile
/// under 60 us. After kShortNapTime without traffic, longer than a decode step leaves a rank alone,
/// naps grow: a rank that hears only heartbeats costs about 2 % of a core.
class NapSchedule {
 public:
  /// Each poll may yield the core. Ten times as many keep threads with something to compute from
  /// being moved to a core that only polls.
  static constexpr int kSpins = 20;
  static constexpr Duration kShortNap = std::chrono::microseconds(50);
  static constexpr Duration kLongNap = std::chrono::milliseconds(2);
  static constexpr Duration kShortNapTime = std::chrono::milliseconds(5);
  /// Not for ever: a ring may be missed in the moment in which another thread takes over.
  static constexpr Duration kRungNap = std::chrono::milliseconds(20);

  static constexpr Duration longest(bool rung) { return rung ? kRungNap : kLongNap; }
  void reset() { *this = {}; }

  /// How long to sleep after another poll that found nothing; zero: poll again. `moving`: a large
  /// message is under way, which moves only when both ends poll. `rung`: who sends rings.
  Duration next(bool moving, bool rung) {
    if (spins_ < kSpins) {
      ++spins_;
      return Duration::zero();
    }
    // Two polls after each nap: MPI finds with one what it has fetched with the one before.
    spins_ = kSpins - 1;
    if (moving) return kShortNap;
    if (rung) return kRungNap;
    if (napped_ > kShortNapTime) nap_ = std::min(nap_ * 2, kLongNap);
    napped_ += nap_;
    return nap_;
  }

 private:
  int spins_ = 0;
  Duration nap_ = kShortNap;
  Duration napped_ = Duration::zero();
};

/// Else the kernel rounds this thread's naps of 50 us up by as much again.
inline void allow_short_naps() {
  thread_local const bool allowed = ::prctl(PR_SET_TIMERSLACK, 1) == 0;
  (void)allowed;
}

}  // namespace pregate::transport
