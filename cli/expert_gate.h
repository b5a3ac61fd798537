// Whether requests are taken while experts are missing.
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"

namespace pregate::cli {

/// Workers come and go, so that experts that are missing now may be there in a second: requests
/// wait for them. When they have been missing for longer than a request may wait, its wait would be
/// in vain. Thread-safe.
class ExpertGate {
 public:
  explicit ExpertGate(Duration patience) : patience_(patience) {}

  /// `health`: its error says what is missing. To be called often.
  void update(const Status& health, TimePoint now) {
    const std::lock_guard lock(mutex_);
    if (health) {
      missing_since_.reset();
      return;
    }
    if (!missing_since_) missing_since_ = now;
    reason_ = health.error().message;
  }

  /// kUnavailable with the reason, or nothing: requests may come.
  Status check(TimePoint now) const {
    const std::lock_guard lock(mutex_);
    if (!missing_since_ || now - *missing_since_ <= patience_) return {};
    return fail(ErrorCode::kUnavailable, "{} (for {:.0f} s now)", reason_,
                to_seconds(now - *missing_since_));
  }

 private:
  const Duration patience_;
  mutable std::mutex mutex_;
  std::optional<TimePoint> missing_since_;  // guarded by mutex_
  std::string reason_;                      // guarded by mutex_
};

}  // namespace pregate::cli
