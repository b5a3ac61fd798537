// Binds what dispatch tells about itself to the metrics.
#pragma once

#include "coordinator/dispatch/probe.h"
#include "monitoring/metrics/dispatch_probe.h"

namespace pregate::cli {

/// Workers are ranks 1, 2, ...; the metrics name them by their place in that list.
class DispatchMetrics final : public coordinator::DispatchProbe {
 public:
  explicit DispatchMetrics(monitoring::DispatchProbe& metrics) : metrics_(metrics) {}

  void request_sent(WorkerId worker, size_t rows, size_t bytes) override {
    metrics_.dispatched(index(worker), rows, bytes);
  }
  void reply_received(WorkerId worker, size_t bytes, Duration, Duration round_trip) override {
    metrics_.combined(index(worker), round_trip, bytes);
  }
  void late_reply(WorkerId) override { metrics_.late_reply(); }
  void worker_up(WorkerId worker, bool up) override { metrics_.set_worker_up(index(worker), up); }

 private:
  static size_t index(WorkerId worker) { return worker.value - 1; }

  monitoring::DispatchProbe& metrics_;
};

}  // namespace pregate::cli
