// Runs a scenario over the in-process transport with NCCL around it.
#pragma once

#include <functional>
#include <memory>

#include "tests/conformance/transport/scenarios.h"
#include "transport/nccl/nccl.h"

namespace pregate::transport {

/// The lanes of a node; null: it has no NCCL.
using LanesOfNode = std::function<std::shared_ptr<LaneMaker>(uint32_t id)>;
/// The device's memory of a node that has lanes; with it what it sends has tails. Null: it has
/// none.
using MemoryOfNode = std::function<std::shared_ptr<DeviceMemory>(uint32_t id)>;

inline std::shared_ptr<DeviceMemory> no_memory(uint32_t /*id*/) { return nullptr; }

/// Fails the test that calls it unless the scenario holds; of long ones, unless lanes were used,
/// for tails too where there are any, and broke if that was to happen.
void expect_holds_over_nccl(const Scenario& scenario, const LanesOfNode& lanes_of, bool breaking,
                            const MemoryOfNode& memory_of = no_memory);

}  // namespace pregate::transport
