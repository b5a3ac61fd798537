#pragma once

#include <cstdint>

#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

/// What a process with --nccl counts. Thread-safe.
class NcclProbe {
 public:
  explicit NcclProbe(Registry& registry);

  void lanes_changed(int by);
  void sent(uint64_t bytes);
  void received(uint64_t bytes);
  void lane_broke();

 private:
  prometheus::Gauge& lanes_;
  prometheus::Counter& sent_bytes_;
  prometheus::Counter& received_bytes_;
  prometheus::Counter& broken_lanes_;
};

}  // namespace pregate::monitoring
