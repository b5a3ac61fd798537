#include "cli/cluster_experts.h"

#include <algorithm>

#include "base/log.h"
#include "cli/cluster_admin.h"
#include "coordinator/dispatch/remote_experts.h"
#include "coordinator/placement/busyness.h"
#include "coordinator/placement/placement_file.h"
#include "model/fingerprint.h"

namespace pregate::cli {
namespace {

using coordinator::Cluster;
using coordinator::Placement;
using coordinator::PlacementShape;

/// Of the cluster's clockwork: far below its shortest deadline.
constexpr auto kTick = std::chrono::milliseconds(50);
/// How often the log says whom we wait for.
constexpr auto kRemind = std::chrono::seconds(10);
/// How often it is looked at who is busy; the loads halve in far longer times.
constexpr auto kBusynessInterval = std::chrono::seconds(1);

coordinator::WorkerKeys keys_of(const ExpectedWorkers& workers, size_t max_workers) {
  if (!workers.complete) return coordinator::future_workers(static_cast<uint32_t>(max_workers));
  std::vector<WorkerId> ids;
  for (uint32_t id = 1; id <= workers.min_workers; ++id) ids.push_back(WorkerId(id));
  return coordinator::numbered_workers(std::move(ids));
}

coordinator::BalancerOptions balancer_options(const BalanceOptions& balance,
                                              const ExpectedWorkers& workers) {
  coordinator::BalancerOptions options;
  options.replicas = balance.replicas;
  options.extra_replicas = balance.extra_replicas;
  options.interval = balance.interval;
  if (workers.complete || workers.min_workers > 1) options.first_settle = Duration::zero();
  return options;
}

Result<coordinator::ClusterOptions> cluster_options(const ClusterExpertsOptions& options,
                                                    const ExpectedWorkers& workers,
                                                    const model::Checkpoint& checkpoint) {
  PREGATE_ASSIGN(const uint64_t fingerprint, model::fingerprint(checkpoint));
  coordinator::ClusterOptions made;
  made.shape = coordinator::placement_shape(checkpoint.config());
  made.model = checkpoint.directory().string();
  made.model_fingerprint = fingerprint;
  made.weight_format = options.model.weights;
  made.secret = workers.secret;
  made.membership.suspect_after = options.cluster.suspect_after;
  made.membership.dead_after = options.cluster.dead_after;
  made.balancer = balancer_options(options.balance, workers);
  made.min_workers = workers.min_workers;
  made.dismiss_at_stop = workers.complete;
  made.rebalance_bytes_per_second = options.balance.bytes_per_second;
  made.heartbeat_interval = options.cluster.heartbeat_interval;
  if (!options.dispatch.placement.empty()) {
    PREGATE_ASSIGN(Placement placement,
                   coordinator::read_placement(options.dispatch.placement, 1, made.shape,
                                               keys_of(workers, made.membership.max_workers)));
    made.placement = std::make_shared<const Placement>(std::move(placement));
  }
  return made;
}

// Experts are of one size, so that the bytes to come follow from those that came.
void report_loading(const PhaseProgress& progress, const coordinator::ClusterInfo& info) {
  size_t num_held = 0, num_assigned = 0, held_bytes = 0;
  for (const auto& worker : info.workers) {
    if (!worker.member.is_alive()) continue;
    num_held += worker.num_held;
    num_assigned += worker.num_assigned;
    held_bytes += worker.held_bytes;
  }
  if (num_held == 0) return;
  progress("experts on workers", held_bytes,
           std::max(held_bytes, held_bytes / num_held * std::max(num_assigned, info.num_experts)));
}

}  // namespace

ClusterExpertsOptions experts_options(const CoordinatorOptions& options) {
  return {.model = options.model,
          .cluster = options.cluster,
          .dispatch = options.dispatch,
          .balance = options.balance};
}

ExpectedWorkers launched_workers(const transport::Transport& transport) {
  return {.secret = {}, .min_workers = transport.launched_peers().size(), .complete = true};
}

ClusterExperts::ClusterExperts(const ClusterExpertsOptions& options, Network& network,
                               monitoring::Registry& registry, const model::ModelConfig& config)
    : options_(options),
      network_(network),
      dispatch_metrics_(registry, {.num_layers = config.num_layers(),
                                   .num_experts = config.num_experts,
                                   .per_expert = options.cluster.per_expert_metrics}),
      probe_(registry, dispatch_metrics_),
      routing_(dispatch_metrics_, config.num_experts),
      gate_(options.dispatch.expert_wait),
      waiter_(network.transport()) {}

Result<std::unique_ptr<ClusterExperts>> ClusterExperts::create(const ClusterExpertsOptions& options,
                                                               const ExpectedWorkers& workers,
                                                               Network& network,
                                                               monitoring::Registry& registry) {
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.model.model));
  PREGATE_ASSIGN(auto made, cluster_options(options, workers, *checkpoint));
  std::unique_ptr<ClusterExperts> experts(
      new ClusterExperts(options, network, registry, checkpoint->config()));
  experts->cluster_ = std::make_unique<Cluster>(network.transport(), experts->clock_,
                                                std::move(made), experts->probe_);
  if (options.balance.frozen) experts->cluster_->freeze_balancer(true);
  return experts;
}

ClusterExperts::~ClusterExperts() {
  give_up_ = true;
  ticker_.reset();
  if (cluster_) cluster_->stop();
}

void ClusterExperts::start(PhaseProgress progress) {
  progress_ = std::move(progress);
  cluster_->start();
  ticker_.emplace(kTick, [this] { tick(); });
}

void ClusterExperts::tick() {
  cluster_->tick();
  gate_.update(cluster_->health(), clock_.now());
  note_busyness();
}

void ClusterExperts::note_busyness() {
  const TimePoint now = clock_.now();
  if (now < busyness_due_) return;
  busyness_due_ = now + kBusynessInterval;
  auto busy =
      coordinator::busyness(*cluster_->table(), cluster_->shape(), cluster_->loads().read(now));
  std::lock_guard lock(busyness_mutex_);
  busyness_ = std::move(busy);
}

double ClusterExperts::busyness_of(ExpertId expert) const {
  std::lock_guard lock(busyness_mutex_);
  return expert.value < busyness_.size() ? busyness_[expert.value] : 0;
}

Status ClusterExperts::wait_for_workers() {
  TimePoint remind_at = clock_.now() + kRemind;
  const auto report = [&](const coordinator::ClusterInfo& info) {
    report_loading(progress_, info);
    if (info.num_missing + info.num_unanswered == 0 || clock_.now() < remind_at) return;
    remind_at = clock_.now() + kRemind;
    const Status health = cluster_->health();
    if (!health) spdlog::info("waiting for workers: {}", health.error().message);
  };
  return cluster_->wait_until_whole(options_.model.load_timeout, report, give_up_);
}

ExpertsHooks ClusterExperts::hooks() {
  const auto connect =
      [this](std::shared_ptr<const model::Checkpoint>,
             compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
    PREGATE_TRY(wait_for_workers());
    return std::make_unique<coordinator::RemoteExperts>(
        coordinator::DispatchParts{.cluster = *cluster_,
                                   .clock = clock_,
                                   .waiter = waiter_,
                                   .backend = backend,
                                   .probe = probe_,
                                   .device_memory = network_.share(backend)},
        coordinator::DispatchOptions{.timeout = options_.dispatch.dispatch_timeout,
                                     .expert_wait = options_.dispatch.expert_wait,
                                     .homeless_grace = options_.homeless_grace,
                                     .reproducible = options_.dispatch.reproducible});
  };
  const auto observe = [this](LayerIdx layer, const router::Decisions& decisions) {
    routing_.count(layer, decisions);
  };
  return {.connect = connect,
          .available =
              [this] {
                gate_.update(cluster_->health(), clock_.now());
                return gate_.check(clock_.now());
              },
          .health = [this] { return cluster_->health(); },
          .observe = observe,
          .expert_load = [this](ExpertId expert) { return busyness_of(expert); },
          .admin = admin_hooks(*cluster_),
          .cluster = [this] { return cluster_->info(); }};
}

}  // namespace pregate::cli
