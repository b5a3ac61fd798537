// Every scenario with lanes that work, with lanes that break all the time, and with a process that
// has none.
#include "transport/nccl/nccl.h"

#include <gtest/gtest.h>

#include "tests/conformance/transport/nccl_nodes.h"
#include "tests/conformance/transport/socket_lanes.h"

namespace pregate::transport {
namespace {

struct Lanes {
  std::string name;
  uint32_t failures = 0;          ///< In a thousand.
  uint32_t num_with = kNumNodes;  ///< Nodes that have NCCL; the others do not.
};

struct Case {
  Scenario scenario;
  Lanes lanes;
};

class NcclConformance : public ::testing::TestWithParam<Case> {};

TEST_P(NcclConformance, Holds) {
  const auto& [scenario, lanes] = GetParam();
  expect_holds_over_nccl(
      scenario,
      [&](uint32_t id) -> std::shared_ptr<LaneMaker> {
        if (id >= lanes.num_with) return nullptr;
        return std::make_shared<SocketLanes>(
            SocketLanesOptions{.failures = lanes.failures, .seed = id + 1});
      },
      lanes.failures > 0);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Lanes& lanes : {Lanes{"lanes"}, Lanes{.name = "breaking", .failures = 100},
                             Lanes{.name = "one_without", .num_with = 2}}) {
    for (const Scenario& scenario : scenarios()) all.push_back({scenario, lanes});
  }
  return all;
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return info.param.lanes.name + "_" + info.param.scenario.name;
}

INSTANTIATE_TEST_SUITE_P(Nccl, NcclConformance, ::testing::ValuesIn(cases()), name_of);

}  // namespace
}  // namespace pregate::transport
