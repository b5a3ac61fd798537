// Every scenario with lanes that work, with lanes that break all the time, and with a process that
// has none; with payloads in host memory, and with such that end in a device's.
#include "transport/nccl/nccl.h"

#include <gtest/gtest.h>

#include "tests/conformance/transport/nccl_nodes.h"
#include "tests/conformance/transport/socket_lanes.h"
#include "tests/support/device_memories.h"

namespace pregate::transport {
namespace {

struct Lanes {
  const char* name;
  uint32_t failures = 0;          ///< In a thousand.
  uint32_t num_with = kNumNodes;  ///< Nodes that have NCCL; the others do not.
  uint32_t num_with_memory = 0;   ///< Of the device.
  size_t memory_bytes = SIZE_MAX;
};

struct Case {
  Scenario scenario;
  Lanes lanes;
};

class NcclConformance : public ::testing::TestWithParam<Case> {};

TEST_P(NcclConformance, Holds) {
  const Scenario& scenario = GetParam().scenario;
  const Lanes& lanes = GetParam().lanes;
  std::vector<std::shared_ptr<ScrambledMemory>> memories;
  for (uint32_t id = 0; id < lanes.num_with_memory; ++id) {
    memories.push_back(std::make_shared<ScrambledMemory>(lanes.memory_bytes));
  }
  expect_holds_over_nccl(
      scenario,
      [&](uint32_t id) -> std::shared_ptr<LaneMaker> {
        if (id >= lanes.num_with) return nullptr;
        return std::make_shared<SocketLanes>(
            SocketLanesOptions{.failures = lanes.failures, .seed = id + 1});
      },
      lanes.failures > 0,
      [&](uint32_t id) -> std::shared_ptr<DeviceMemory> {
        if (id >= memories.size()) return nullptr;
        return memories[id];
      });
  for (const auto& memory : memories) EXPECT_EQ(memory->used_bytes(), 0U);
}

constexpr Lanes kLanes[] = {
    {.name = "lanes"},
    {.name = "breaking", .failures = 100},
    {.name = "one_without", .num_with = 2},
    {.name = "tails", .num_with_memory = kNumNodes},
    {.name = "breaking_tails", .failures = 100, .num_with_memory = kNumNodes},
    {.name = "tails_one_without", .num_with = 2, .num_with_memory = 2},
    {.name = "tails_one_without_memory", .num_with_memory = 2},
    {.name = "tails_in_little_memory", .num_with_memory = kNumNodes, .memory_bytes = 1 << 20},
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Lanes& lanes : kLanes) {
    for (const Scenario& scenario : scenarios()) all.push_back({scenario, lanes});
  }
  return all;
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return std::string(info.param.lanes.name) + "_" + info.param.scenario.name;
}

INSTANTIATE_TEST_SUITE_P(Nccl, NcclConformance, ::testing::ValuesIn(cases()), name_of);

}  // namespace
}  // namespace pregate::transport
