#include "coordinator/dispatch/reply_times.h"

#include <algorithm>

namespace pregate::coordinator {
namespace {

/// Of the newest answer in the means.
constexpr double kShare = 1.0 / 32;

}  // namespace

void ReplyTimes::note(WorkerId worker, size_t num_rows, Duration took) {
  const Means now{to_seconds(took), static_cast<double>(num_rows)};
  const auto [entry, is_first] = means_.try_emplace(worker, now);
  if (is_first) return;
  Means& means = entry->second;
  means.seconds += kShare * (now.seconds - means.seconds);
  means.rows += kShare * (now.rows - means.rows);
}

std::optional<Duration> ReplyTimes::usual(WorkerId worker, size_t num_rows) const {
  const auto entry = means_.find(worker);
  if (entry == means_.end()) return std::nullopt;
  const Means& means = entry->second;
  const double times = std::max(1.0, static_cast<double>(num_rows) / std::max(1.0, means.rows));
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(times * means.seconds));
}

}  // namespace pregate::coordinator
