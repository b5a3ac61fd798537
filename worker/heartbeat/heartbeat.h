// Tells the coordinator now and then that this worker lives, also while it computes, and notices
// when the coordinator says nothing any more.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "base/clock.h"

namespace pregate::worker {

struct HeartbeatOptions {
  Duration interval = std::chrono::milliseconds(250);
  /// Silence after which the coordinator counts as gone. Longer than the coordinator's own limit:
  /// a worker that leaves too early takes its experts with it.
  Duration max_silence = std::chrono::seconds(10);
  /// The same before the first word.
  Duration max_first_silence = std::chrono::minutes(5);
};

class Heartbeat {
 public:
  /// `beat` is called every interval, `lost` once; both on the heartbeat's thread.
  Heartbeat(const HeartbeatOptions& options, const Clock& clock, std::function<void()> beat,
            std::function<void(Duration silence)> lost);

  /// Something came from the coordinator. Thread-safe.
  void heard();

 private:
  void run(const std::stop_token& stop);

  const HeartbeatOptions options_;
  const Clock& clock_;
  const std::function<void()> beat_;
  const std::function<void(Duration)> lost_;
  std::atomic<bool> heard_any_{false};
  std::atomic<TimePoint> last_heard_;
  std::jthread thread_;
};

}  // namespace pregate::worker
