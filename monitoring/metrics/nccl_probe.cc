#include "monitoring/metrics/nccl_probe.h"

namespace pregate::monitoring {
namespace {

prometheus::Counter& bytes(Registry& registry, const std::string& direction) {
  return registry.counters("pregate_nccl_bytes_total", "Payload that went by NCCL.")
      .Add({{"direction", direction}});
}

prometheus::Counter& device_bytes(Registry& registry, const std::string& direction) {
  return registry
      .counters("pregate_nccl_device_bytes_total",
                "Payload that NCCL took from or put into device memory, without the host.")
      .Add({{"direction", direction}});
}

void count(prometheus::Counter& all, prometheus::Counter& of_device, uint64_t bytes,
           bool on_device) {
  all.Increment(static_cast<double>(bytes));
  if (on_device) of_device.Increment(static_cast<double>(bytes));
}

}  // namespace

NcclProbe::NcclProbe(Registry& registry)
    : lanes_(registry
                 .gauges("pregate_nccl_lanes",
                         "Lanes of NCCL to and from other processes that are up.")
                 .Add({})),
      sent_bytes_(bytes(registry, "sent")),
      received_bytes_(bytes(registry, "received")),
      device_sent_bytes_(device_bytes(registry, "sent")),
      device_received_bytes_(device_bytes(registry, "received")),
      broken_lanes_(registry
                        .counters("pregate_nccl_broken_lanes_total",
                                  "Lanes to other processes that broke, or never came up.")
                        .Add({})) {}

void NcclProbe::lanes_changed(int by) { lanes_.Increment(by); }
void NcclProbe::sent(uint64_t bytes, bool on_device) {
  count(sent_bytes_, device_sent_bytes_, bytes, on_device);
}
void NcclProbe::received(uint64_t bytes, bool on_device) {
  count(received_bytes_, device_received_bytes_, bytes, on_device);
}
void NcclProbe::lane_broke() { broken_lanes_.Increment(); }

}  // namespace pregate::monitoring
