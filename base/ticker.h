// Calls something again and again on a thread of its own.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "base/clock.h"

namespace pregate {

/// From construction to destruction, which waits for a call under way.
class Ticker {
 public:
  Ticker(Duration interval, std::function<void()> tick)
      : thread_([interval, tick = std::move(tick)](const std::stop_token& stop) {
          std::mutex mutex;
          std::condition_variable_any stopped;
          std::unique_lock lock(mutex);
          while (!stopped.wait_for(lock, stop, interval, [&] { return stop.stop_requested(); })) {
            tick();
          }
        }) {}

 private:
  std::jthread thread_;
};

}  // namespace pregate
