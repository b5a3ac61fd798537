#include "cli/cluster_service.h"

#include <future>

#include "base/log.h"
#include "cli/dispatch_metrics.h"
#include "cli/routing_counter.h"
#include "coordinator/dispatch/remote_experts.h"
#include "coordinator/placement/placement_file.h"
#include "model/fingerprint.h"

namespace pregate::cli {
namespace {

using coordinator::Cluster;
using coordinator::Placement;

std::vector<WorkerId> workers_of(const transport::Transport& transport) {
  std::vector<WorkerId> workers;
  for (const transport::PeerId peer : transport.launched_peers()) {
    workers.push_back(WorkerId(peer.value));
  }
  return workers;
}

std::vector<std::string> names_of(const std::vector<WorkerId>& workers) {
  std::vector<std::string> names;
  for (const WorkerId worker : workers) names.push_back(fmt::format("worker-{}", worker));
  return names;
}

Result<std::shared_ptr<const Placement>> make_placement(const std::filesystem::path& file,
                                                        const model::ModelConfig& config,
                                                        const std::vector<WorkerId>& workers) {
  const coordinator::PlacementShape shape = coordinator::placement_shape(config);
  if (file.empty()) {
    return std::make_shared<const Placement>(coordinator::even_placement(1, shape, workers));
  }
  PREGATE_ASSIGN(Placement placement, coordinator::read_placement(file, 1, shape, workers));
  return std::make_shared<const Placement>(std::move(placement));
}

Result<coordinator::ClusterOptions> cluster_options(const ClusterServiceOptions& options,
                                                    const model::Checkpoint& checkpoint,
                                                    const std::vector<WorkerId>& workers) {
  PREGATE_ASSIGN(const uint64_t fingerprint, model::fingerprint(checkpoint));
  return coordinator::ClusterOptions{.workers = workers,
                                     .model = checkpoint.directory().string(),
                                     .model_fingerprint = fingerprint,
                                     .weight_format = options.service.model.weights,
                                     .heartbeat_interval = options.cluster.heartbeat_interval,
                                     .max_silence = options.cluster.heartbeat_deadline,
                                     .load_timeout = options.service.model.load_timeout};
}

void report_loading(Service& service, const std::vector<coordinator::WorkerInfo>& workers) {
  size_t num_loaded = 0, num_experts = 0;
  for (const auto& worker : workers) {
    num_loaded += worker.loading.experts_loaded;
    num_experts += worker.loading.experts_total;
  }
  service.report_progress("experts on workers", num_loaded, num_experts);
}

}  // namespace

Status serve_cluster(const ClusterServiceOptions& options, transport::Transport& transport,
                     Signals& signals) {
  const std::vector<WorkerId> workers = workers_of(transport);
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.service.model.model));
  const model::ModelConfig& config = checkpoint->config();
  PREGATE_ASSIGN(auto placement, make_placement(options.dispatch.placement, config, workers));
  PREGATE_ASSIGN(const auto cluster_opts, cluster_options(options, *checkpoint, workers));

  monitoring::Registry registry;
  monitoring::DispatchProbe metrics(registry, {.worker_names = names_of(workers),
                                               .num_layers = config.num_layers(),
                                               .num_experts = config.num_experts,
                                               .per_expert = options.cluster.per_expert_metrics});
  DispatchMetrics probe(metrics);
  RoutingCounter routing(metrics, config.num_experts);
  Cluster cluster(transport, cluster_opts, probe);
  Status served;
  {
    Service service(options.service, registry);
    // The workers load while the backbone does.
    std::atomic<bool> give_up{false};
    auto joining = std::async(std::launch::async, [&] {
      const auto progress = [&](const auto& infos) { report_loading(service, infos); };
      return cluster.start(placement, progress, give_up);
    });
    const auto connect =
        [&](std::shared_ptr<const model::Checkpoint>,
            compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
      PREGATE_TRY(joining.get());
      return std::make_unique<coordinator::RemoteExperts>(
          cluster, backend,
          coordinator::DispatchOptions{.timeout = options.dispatch.dispatch_timeout,
                                       .reproducible = options.dispatch.reproducible},
          probe);
    };
    served = service.run(signals, {.connect = connect,
                                   .available = [&] { return cluster.health(); },
                                   .observe =
                                       [&](LayerIdx layer, const router::Decisions& decisions) {
                                         routing.count(layer, decisions);
                                       }});
    give_up = true;
    if (joining.valid()) joining.wait();
  }
  cluster.stop();
  return served;
}

}  // namespace pregate::cli
