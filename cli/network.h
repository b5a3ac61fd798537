// What a process of a cluster speaks through: the transport it was started with, and NCCL around it
// where --nccl asks for that.
#pragma once

#include <memory>

#include "cli/options.h"
#include "monitoring/metrics/registry.h"
#include "transport/transport.h"

namespace pregate::cli {

class Network {
 public:
  virtual ~Network() = default;
  virtual transport::Transport& transport() = 0;
};

/// `carrier` and `registry` outlive it. Error: NCCL does not work here.
Result<std::unique_ptr<Network>> make_network(const ClusterOptions& options,
                                              transport::Transport& carrier,
                                              monitoring::Registry& registry);

/// For a process that has no others to send to, or only such as share its device.
Status refuse_nccl(const NcclFlags& flags);

}  // namespace pregate::cli
