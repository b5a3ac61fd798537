// A service whose experts are held by workers: what rank 0 of a cluster does.
#pragma once

#include "cli/service.h"
#include "transport/transport.h"

namespace pregate::cli {

struct ClusterServiceOptions {
  ServiceOptions service;
  ClusterOptions cluster;
  DispatchOptions dispatch;
};

/// Serves until it is told to stop, then dismisses the workers and stops the transport.
Status serve_cluster(const ClusterServiceOptions& options, transport::Transport& transport,
                     Signals& signals);

}  // namespace pregate::cli
