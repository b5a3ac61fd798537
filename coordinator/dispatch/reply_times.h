// How long workers usually take to answer, to tell when one is late.
#pragma once

#include <optional>
#include <unordered_map>

#include "base/clock.h"
#include "base/ids.h"

namespace pregate::coordinator {

/// Means that forget: of the time from sending to the answer, and of the rows asked for.
class ReplyTimes {
 public:
  void note(WorkerId worker, size_t num_rows, Duration took);
  /// For so many rows: in proportion where they are more than usual. Nothing before its first
  /// answer.
  std::optional<Duration> usual(WorkerId worker, size_t num_rows) const;

 private:
  struct Means {
    double seconds = 0, rows = 0;
  };
  std::unordered_map<WorkerId, Means> means_;
};

}  // namespace pregate::coordinator
