#include "monitoring/metrics/nccl_probe.h"

namespace pregate::monitoring {
namespace {

prometheus::Counter& bytes(Registry& registry, const std::string& direction) {
  return registry.counters("pregate_nccl_bytes_total", "Payload that went by NCCL.")
      .Add({{"direction", direction}});
}

}  // namespace

NcclProbe::NcclProbe(Registry& registry)
    : lanes_(registry
                 .gauges("pregate_nccl_lanes",
                         "Lanes of NCCL to and from other processes that are up.")
                 .Add({})),
      sent_bytes_(bytes(registry, "sent")),
      received_bytes_(bytes(registry, "received")),
      broken_lanes_(registry
                        .counters("pregate_nccl_broken_lanes_total",
                                  "Lanes to other processes that broke, or never came up.")
                        .Add({})) {}

void NcclProbe::lanes_changed(int by) { lanes_.Increment(by); }
void NcclProbe::sent(uint64_t bytes) { sent_bytes_.Increment(static_cast<double>(bytes)); }
void NcclProbe::received(uint64_t bytes) { received_bytes_.Increment(static_cast<double>(bytes)); }
void NcclProbe::lane_broke() { broken_lanes_.Increment(); }

}  // namespace pregate::monitoring
