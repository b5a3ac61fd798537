#include "cli/cluster_admin.h"

#include <algorithm>
#include <cmath>

#include "cli/suggest.h"
#include "coordinator/placement/placement_file.h"

namespace pregate::cli {
namespace {

namespace json = boost::json;
using coordinator::ApiError;
using coordinator::Cluster;
using coordinator::ClusterInfo;
using coordinator::WorkerInfo;
using Answer = coordinator::AdminHooks::Answer;

/// To milliseconds: what people and programs need of it.
double seconds_since(TimePoint then, TimePoint now) {
  return std::round(to_seconds(now - then) * 1000) / 1000;
}

json::value text_or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

json::object describe_capacity(const protocol::Capacity& capacity) {
  return {{"rows_per_second", std::round(capacity.rows_per_second)},
          {"memory_bytes", capacity.memory_bytes},
          {"expert_bytes", capacity.expert_bytes},
          {"threads", capacity.threads},
          {"backend", capacity.backend}};
}

ApiError conflict(const Error& error) {
  if (error.code == ErrorCode::kNotFound) return {404, error.message, "", "worker_not_found"};
  if (error.code == ErrorCode::kInvalidArgument) return {409, error.message, "", "conflict"};
  return coordinator::to_api_error(error);
}

/// The worker of this name, or a 404 that knows a name like it.
coordinator::ApiResult<WorkerInfo> find_worker(const Cluster& cluster, const std::string& name) {
  ClusterInfo info = cluster.info();
  std::vector<std::string> names;
  for (WorkerInfo& worker : info.workers) {
    if (worker.member.name == name) return std::move(worker);
    names.push_back(worker.member.name);
  }
  return tl::unexpected(
      ApiError{404, fmt::format("no worker is named \"{}\"{}", name, did_you_mean(name, names)),
               "worker", "worker_not_found"});
}

Answer show(const Cluster& cluster, const std::string& name) {
  const auto worker = find_worker(cluster, name);
  if (!worker) return tl::unexpected(worker.error());
  return describe_worker(*worker, system_clock().now());
}

Answer drain(Cluster& cluster, const std::string& name) {
  const auto worker = find_worker(cluster, name);
  if (!worker) return tl::unexpected(worker.error());
  const Status status = cluster.drain(worker->member.id);
  if (!status) return tl::unexpected(conflict(status.error()));
  return show(cluster, name);
}

Answer remove(Cluster& cluster, const std::string& name) {
  const auto worker = find_worker(cluster, name);
  if (!worker) return tl::unexpected(worker.error());
  const Status status = cluster.remove(worker->member.id);
  if (!status) return tl::unexpected(conflict(status.error()));
  return json::object{{"removed", name}};
}

json::value write(const std::shared_ptr<const coordinator::Placement>& placement,
                  const Cluster& cluster, const ClusterInfo& info) {
  if (placement == nullptr) return nullptr;
  std::map<WorkerId, std::string> names;
  for (const WorkerInfo& worker : info.workers) names[worker.member.id] = worker.member.name;
  return coordinator::write_placement(*placement, cluster.shape(), names);
}

Answer placement(const Cluster& cluster) {
  const ClusterInfo info = cluster.info();
  const auto table = cluster.table();
  const auto target = cluster.target();
  json::object body{{"table_version", table == nullptr ? 0 : table->version()},
                    {"target_version", target == nullptr ? 0 : target->version()},
                    {"missing_experts", info.num_missing}};
  body["table"] = write(table, cluster, info);
  body["target"] = write(target, cluster, info);
  return body;
}

/// "layers[0].experts.worker-9: unknown worker, ..." is about layers[0].experts.worker-9.
std::string field_of(const std::string& message) {
  const size_t colon = message.find(": ");
  const std::string field = message.substr(0, colon);
  return colon == std::string::npos || field.find(' ') != std::string::npos ? "" : field;
}

Answer set_placement(Cluster& cluster, const std::string& text) {
  std::map<std::string, WorkerId, std::less<>> names;
  for (const WorkerInfo& worker : cluster.info().workers) {
    if (worker.member.is_alive()) names[worker.member.name] = worker.member.id;
  }
  const auto parsed = coordinator::parse_placement(text, 0, cluster.shape(),
                                                   coordinator::named_workers(std::move(names)));
  if (!parsed) {
    const std::string& message = parsed.error().message;
    return tl::unexpected(ApiError{400, message, field_of(message)});
  }
  const Status status = cluster.set_target(*parsed);
  if (!status) return tl::unexpected(conflict(status.error()));
  return json::object{{"target_version", cluster.info().target_version},
                      {"balancer", describe_balancer(cluster.balancer())}};
}

}  // namespace

json::object describe_worker(const WorkerInfo& worker, TimePoint now) {
  const coordinator::Member& member = worker.member;
  return {{"name", member.name},
          {"id", member.id.value},
          {"host", member.host},
          {"pid", member.pid},
          {"state", std::string(coordinator::to_string(member.state))},
          {"state_seconds", seconds_since(member.since, now)},
          {"heard_seconds", seconds_since(member.last_heard, now)},
          {"reason", text_or_null(member.reason)},
          {"experts", worker.num_held},
          {"experts_assigned", worker.num_assigned},
          {"expert_bytes", worker.held_bytes},
          {"queue_depth", worker.queue_depth},
          {"capacity", describe_capacity(member.capacity)}};
}

json::object describe_cluster(const ClusterInfo& info, TimePoint now) {
  json::array workers;
  for (const WorkerInfo& worker : info.workers) workers.push_back(describe_worker(worker, now));
  return {{"table_version", info.table_version},
          {"target_version", info.target_version},
          {"experts", info.num_experts},
          {"missing_experts", info.num_missing},
          {"unanswered_experts", info.num_unanswered},
          {"workers", std::move(workers)}};
}

json::object describe_balancer(const coordinator::BalancerState& state) {
  return {{"frozen", state.frozen},
          {"moving", state.moving},
          {"reason", std::string(coordinator::to_string(state.reason))},
          {"replicas_to_load", state.num_to_load},
          {"replicas_left", state.moving ? state.num_left : 0},
          {"imbalance", state.imbalance},
          {"homeless_experts", state.num_homeless}};
}

coordinator::AdminHooks admin_hooks(Cluster& cluster) {
  return {
      .workers = [&cluster]() -> Answer {
        return describe_cluster(cluster.info(), system_clock().now());
      },
      .worker = [&cluster](const std::string& name) { return show(cluster, name); },
      .drain = [&cluster](const std::string& name) { return drain(cluster, name); },
      .remove = [&cluster](const std::string& name) { return remove(cluster, name); },
      .placement = [&cluster] { return placement(cluster); },
      .set_placement = [&cluster](const std::string& text) { return set_placement(cluster, text); },
      .balancer = [&cluster]() -> Answer { return describe_balancer(cluster.balancer()); },
      .freeze_balancer = [&cluster](bool frozen) -> Answer {
        cluster.freeze_balancer(frozen);
        return describe_balancer(cluster.balancer());
      }};
}

}  // namespace pregate::cli
