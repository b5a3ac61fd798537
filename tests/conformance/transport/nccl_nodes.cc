#include "tests/conformance/transport/nccl_nodes.h"

#include <gtest/gtest.h>

#include "tests/conformance/transport/socket_lanes.h"
#include "tests/conformance/transport/tails.h"
#include "transport/inproc/hub.h"

namespace pregate::transport {
namespace {

std::unique_ptr<Transport> wrap(Transport& carrier, std::shared_ptr<LaneMaker> lanes,
                                NcclProbe& probe, const NcclOptions& options) {
  auto transport = make_nccl_transport(carrier, std::move(lanes), probe, options);
  if (options.device_memory == nullptr) return transport;
  return std::make_unique<Tails>(std::move(transport), options.device_memory);
}

}  // namespace

void expect_holds_over_nccl(const Scenario& scenario, const LanesOfNode& lanes_of, bool breaking,
                            const MemoryOfNode& memory_of) {
  InprocHub hub(scenario.max_in_flight_bytes);
  CountingProbe probe;
  // All before the first is wrapped: who was launched together accepts each other's lanes.
  std::vector<std::unique_ptr<Transport>> carriers;
  for (uint32_t id = 0; id < kNumNodes; ++id) carriers.push_back(hub.attach(PeerId(id)));
  std::vector<std::unique_ptr<Node>> nodes;
  bool has_tails = false;
  for (uint32_t id = 0; id < kNumNodes; ++id) {
    std::unique_ptr<Transport> transport;
    if (auto lanes = lanes_of(id)) {
      NcclOptions options = eager_options(scenario.max_in_flight_bytes);
      options.device_memory = memory_of(id);
      has_tails |= options.device_memory != nullptr;
      transport = wrap(*carriers[id], std::move(lanes), probe, options);
    } else {
      transport = std::move(carriers[id]);
    }
    nodes.push_back(
        std::make_unique<Node>(std::move(transport), [&hub, id] { hub.cut(PeerId(id)); }));
  }
  for (const Status& result : run_all(scenario, nodes)) {
    EXPECT_TRUE(result.has_value()) << result.error().message;
  }
  nodes.clear();
  EXPECT_EQ(probe.lanes, 0);
  if (scenario.name != "flood") return;  // others end before lanes are up
  EXPECT_GT(probe.sent_bytes, 0U);
  EXPECT_GT(probe.received_bytes, 0U);
  EXPECT_EQ(probe.device_sent_bytes > 0, has_tails);
  EXPECT_EQ(probe.device_received_bytes > 0, has_tails);
  EXPECT_EQ(probe.broken_lanes > 0, breaking);
}

}  // namespace pregate::transport
