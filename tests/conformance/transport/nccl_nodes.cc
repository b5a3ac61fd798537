#include "tests/conformance/transport/nccl_nodes.h"

#include <thread>

#include <gtest/gtest.h>

#include "tests/conformance/transport/socket_lanes.h"
#include "transport/inproc/hub.h"

namespace pregate::transport {

NcclStats hold_over_nccl(const Scenario& scenario, const LanesOfNode& lanes_of) {
  InprocHub hub(scenario.max_in_flight_bytes);
  const NcclTransport* first = nullptr;
  std::vector<std::unique_ptr<Node>> nodes;
  for (uint32_t id = 0; id < kNumNodes; ++id) {
    auto transport = hub.attach(PeerId(id));
    if (auto lanes = lanes_of(id)) {
      auto nccl = make_nccl_transport(std::move(transport), std::move(lanes),
                                      eager_options(scenario.max_in_flight_bytes));
      if (id == 0) first = nccl.get();
      transport = std::move(nccl);
    }
    nodes.push_back(
        std::make_unique<Node>(std::move(transport), [&hub, id] { hub.cut(PeerId(id)); }));
  }
  std::vector<Status> results(kNumNodes);
  {
    std::vector<std::jthread> threads;
    for (uint32_t id = 0; id < kNumNodes; ++id) {
      threads.emplace_back([&, id] { results[id] = scenario.run(*nodes[id]); });
    }
  }
  for (const Status& result : results) {
    EXPECT_TRUE(result.has_value()) << result.error().message;
  }
  return first->stats();
}

}  // namespace pregate::transport
