// Experts of this process that are in memory only as far as --expert-memory allows.
#pragma once

#include <memory>
#include <vector>

#include "cli/model_runtime.h"
#include "cli/options.h"
#include "monitoring/metrics/expert_cache_probe.h"
#include "worker/experts/cache/expert_cache.h"

namespace pregate::cli {

/// What the routed experts of a model take in memory.
struct ExpertSizes {
  size_t count = 0;
  size_t num_layers = 0;  ///< Of the model, dense ones too.
  uint64_t largest_bytes = 0;
  uint64_t total_bytes = 0;
};

/// Loads the largest one to find out.
Result<ExpertSizes> measure_experts(const model::Checkpoint& checkpoint,
                                    const worker::ReadExpert& read);

/// The budget for experts; 0: all are loaded at the start. Unless the options give one, that is so
/// where they fit into what is `available_bytes`, 0 if that is unknown.
uint64_t expert_budget(const ExpertMemoryOptions& options, const ExpertSizes& sizes,
                       uint64_t kv_cache_bytes, uint64_t available_bytes);

/// One for each loading thread, each with a packer of its own for the kernels of `backend`; all
/// that they use lives as long as they do.
Result<std::vector<worker::ReadExpert>> expert_readers(
    const std::shared_ptr<const model::Checkpoint>& checkpoint, const std::string& backend,
    compute::WeightFormat format, const ExpertMemoryOptions& options);

/// The experts go to the memory of `backend`. Error: kInvalidArgument, naming --expert-memory, if
/// not even the largest expert fits, or if that memory is the back end's own and has less free.
Result<std::unique_ptr<worker::ExpertCache>> make_expert_cache(
    std::vector<worker::ReadExpert> readers, const ExpertMemoryOptions& options,
    const ExpertSizes& sizes, const compute::Backend& backend, worker::CacheProbe& probe);

/// Binds what a cache tells to the metrics.
class ExpertCacheMetrics final : public worker::CacheProbe {
 public:
  explicit ExpertCacheMetrics(monitoring::Registry& registry) : probe_(registry) {}

  void set_budget(uint64_t bytes) override { probe_.set_budget(bytes); }
  void looked_up(size_t hits, size_t misses) override { probe_.looked_up(hits, misses); }
  void loaded(worker::LoadCause cause, size_t, Duration took) override {
    cause == worker::LoadCause::kDemand ? probe_.loaded_on_demand(took) : probe_.prefetched(took);
  }
  void load_failed(worker::LoadCause cause) override {
    cause == worker::LoadCause::kDemand ? probe_.demand_failed() : probe_.prefetch_failed();
  }
  void evicted(bool unused) override { probe_.evicted(unused); }
  void holds(size_t, size_t bytes) override { probe_.set_resident(bytes); }
  void waited(Duration duration) override { probe_.waited(duration); }

 private:
  monitoring::ExpertCacheProbe probe_;
};

struct LocalExpertsOptions {
  ModelOptions model;
  ExpertMemoryOptions memory;
  uint64_t kv_cache_bytes = 0;  ///< Of the host's memory; on a device it was taken before.
};

/// Makes the probe of a cache once it is known that there is one.
using MakeCacheProbe = std::function<worker::CacheProbe&()>;

/// All experts in memory if they fit and --expert-memory is not given; else a cache of them.
ModelRuntime::ConnectExperts connect_local_experts(const LocalExpertsOptions& options,
                                                   MakeCacheProbe make_probe,
                                                   PhaseProgress progress);

}  // namespace pregate::cli
