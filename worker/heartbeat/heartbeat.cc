#include "worker/heartbeat/heartbeat.h"

#include <utility>

namespace pregate::worker {

Heartbeat::Heartbeat(const HeartbeatOptions& options, const Clock& clock,
                     std::function<void()> beat, std::function<void(Duration)> lost)
    : options_(options),
      clock_(clock),
      beat_(std::move(beat)),
      lost_(std::move(lost)),
      last_heard_(clock.now()),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

void Heartbeat::heard() {
  last_heard_ = clock_.now();
  heard_any_ = true;
}

void Heartbeat::run(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  bool is_lost = false;
  while (!stopped.wait_for(lock, stop, options_.interval, [&] { return stop.stop_requested(); })) {
    beat_();
    const Duration silence = clock_.now() - last_heard_.load();
    const Duration limit = heard_any_ ? options_.max_silence : options_.max_first_silence;
    if (silence > limit && !std::exchange(is_lost, true)) lost_(silence);
  }
}

}  // namespace pregate::worker
