#include "tests/conformance/transport/nccl_nodes.h"

#include <gtest/gtest.h>

#include "tests/conformance/transport/socket_lanes.h"
#include "transport/inproc/hub.h"

namespace pregate::transport {

void expect_holds_over_nccl(const Scenario& scenario, const LanesOfNode& lanes_of, bool breaking) {
  InprocHub hub(scenario.max_in_flight_bytes);
  CountingProbe probe;
  // All before the first is wrapped: who was launched together accepts each other's lanes.
  std::vector<std::unique_ptr<Transport>> carriers;
  for (uint32_t id = 0; id < kNumNodes; ++id) carriers.push_back(hub.attach(PeerId(id)));
  std::vector<std::unique_ptr<Node>> nodes;
  for (uint32_t id = 0; id < kNumNodes; ++id) {
    std::unique_ptr<Transport> transport;
    if (auto lanes = lanes_of(id)) {
      transport = make_nccl_transport(*carriers[id], std::move(lanes), probe,
                                      eager_options(scenario.max_in_flight_bytes));
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
  EXPECT_EQ(probe.broken_lanes > 0, breaking);
}

}  // namespace pregate::transport
