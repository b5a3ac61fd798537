#include "cli/cluster_experts.h"

#include "base/log.h"
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

Result<coordinator::ClusterOptions> make_cluster_options(const ClusterExpertsOptions& options,
                                                         const model::Checkpoint& checkpoint,
                                                         const std::vector<WorkerId>& workers) {
  PREGATE_ASSIGN(const uint64_t fingerprint, model::fingerprint(checkpoint));
  return coordinator::ClusterOptions{.workers = workers,
                                     .model = checkpoint.directory().string(),
                                     .model_fingerprint = fingerprint,
                                     .weight_format = options.model.weights,
                                     .heartbeat_interval = options.cluster.heartbeat_interval,
                                     .max_silence = options.cluster.heartbeat_deadline,
                                     .load_timeout = options.model.load_timeout};
}

// Experts are of one size, so that the bytes to come follow from those that came.
void report_loading(const PhaseProgress& progress,
                    const std::vector<coordinator::WorkerInfo>& workers) {
  size_t num_loaded = 0, num_experts = 0, loaded_bytes = 0;
  for (const auto& worker : workers) {
    num_loaded += worker.loading.loaded_experts;
    num_experts += worker.loading.total_experts;
    loaded_bytes += worker.loading.loaded_bytes;
  }
  if (num_loaded > 0) {
    progress("experts on workers", loaded_bytes, loaded_bytes / num_loaded * num_experts);
  }
}

}  // namespace

ClusterExperts::ClusterExperts(const ClusterExpertsOptions& options, monitoring::Registry& registry,
                               const model::ModelConfig& config, std::vector<WorkerId> workers)
    : options_(options),
      metrics_(registry, {.worker_names = names_of(workers),
                          .num_layers = config.num_layers(),
                          .num_experts = config.num_experts,
                          .per_expert = options.cluster.per_expert_metrics}),
      probe_(metrics_),
      routing_(metrics_, config.num_experts) {}

Result<std::unique_ptr<ClusterExperts>> ClusterExperts::create(const ClusterExpertsOptions& options,
                                                               transport::Transport& transport,
                                                               monitoring::Registry& registry) {
  const std::vector<WorkerId> workers = workers_of(transport);
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(options.model.model));
  const model::ModelConfig& config = checkpoint->config();
  std::unique_ptr<ClusterExperts> experts(new ClusterExperts(options, registry, config, workers));
  PREGATE_ASSIGN(experts->placement_, make_placement(options.dispatch.placement, config, workers));
  PREGATE_ASSIGN(const auto cluster_options, make_cluster_options(options, *checkpoint, workers));
  experts->cluster_ = std::make_unique<Cluster>(transport, cluster_options, experts->probe_);
  return experts;
}

ClusterExperts::~ClusterExperts() {
  give_up_ = true;
  if (joining_.valid()) joining_.wait();
  if (cluster_) cluster_->stop();
}

void ClusterExperts::start(PhaseProgress progress) {
  joining_ = std::async(std::launch::async, [this, progress = std::move(progress)] {
    const auto report = [&](const auto& workers) { report_loading(progress, workers); };
    return cluster_->start(placement_, report, give_up_);
  });
}

ExpertsHooks ClusterExperts::hooks() {
  const auto connect = [this](std::shared_ptr<const model::Checkpoint>,
                              compute::Backend&) -> Result<std::unique_ptr<engine::ExpertClient>> {
    PREGATE_TRY(joining_.get());
    return std::make_unique<coordinator::RemoteExperts>(
        *cluster_,
        coordinator::DispatchOptions{.timeout = options_.dispatch.dispatch_timeout,
                                     .reproducible = options_.dispatch.reproducible},
        probe_);
  };
  return {
      .connect = connect,
      .available = [this] { return cluster_->health(); },
      .observe = [this](LayerIdx layer,
                        const router::Decisions& decisions) { routing_.count(layer, decisions); }};
}

}  // namespace pregate::cli
