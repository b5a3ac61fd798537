#pragma once

#include <cstdint>

#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

/// What a process with --nccl counts. Thread-safe.
class NcclProbe {
 public:
  explicit NcclProbe(Registry& registry);

  void lanes_changed(int by);
  /// `on_device`: from, or into, the memory of the process's GPU, without the host.
  void sent(uint64_t bytes, bool on_device);
  void received(uint64_t bytes, bool on_device);
  void lane_broke();

 private:
  prometheus::Gauge& lanes_;
  prometheus::Counter& sent_bytes_;
  prometheus::Counter& received_bytes_;
  prometheus::Counter& device_sent_bytes_;
  prometheus::Counter& device_received_bytes_;
  prometheus::Counter& broken_lanes_;
};

}  // namespace pregate::monitoring
