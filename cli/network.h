// What a process of a cluster speaks through: the transport it was started with, and NCCL around it
// where --nccl asks for that.
#pragma once

#include <memory>

#include "cli/options.h"
#include "compute/backend.h"
#include "monitoring/metrics/registry.h"
#include "transport/transport.h"

namespace pregate::cli {

class Network {
 public:
  virtual ~Network() = default;
  virtual transport::Transport& transport() = 0;
  /// From now on payloads may lie in the memory that `backend` shares, if NCCL is on its device:
  /// then this is the memory. Null: they may not. Once at most.
  virtual std::shared_ptr<DeviceMemory> share(compute::Backend& /*backend*/) { return nullptr; }
};

/// `carrier` and `registry` outlive it. Error: NCCL does not work here.
Result<std::unique_ptr<Network>> make_network(const ClusterOptions& options,
                                              transport::Transport& carrier,
                                              monitoring::Registry& registry);

/// For a process that has no others to send to, or only such as share its device.
Status refuse_nccl(const NcclFlags& flags);

}  // namespace pregate::cli
