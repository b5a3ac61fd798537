// A clock that stands still until a test moves it.
#pragma once

#include "base/clock.h"

namespace pregate::testing {

class ManualClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  void advance(Duration by) { now_ += by; }

 private:
  TimePoint now_ = TimePoint() + std::chrono::hours(1);
};

}  // namespace pregate::testing
