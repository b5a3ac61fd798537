// What the admin API asks of a cluster, as JSON.
#pragma once

#include "coordinator/api/admin_routes.h"
#include "coordinator/membership/cluster.h"

namespace pregate::cli {

boost::json::object describe_worker(const coordinator::WorkerInfo& worker, TimePoint now);
boost::json::object describe_cluster(const coordinator::ClusterInfo& info, TimePoint now);
boost::json::object describe_balancer(const coordinator::BalancerState& state);

/// The cluster must outlive them.
coordinator::AdminHooks admin_hooks(coordinator::Cluster& cluster);

}  // namespace pregate::cli
