#include "cli/expert_memory.h"

#include <algorithm>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "cli/quantity.h"
#include "model/checkpoint/direct_files.h"
#include "worker/serving/cached_experts.h"

namespace pregate::cli {
namespace {

/// What packs experts on one thread: serving comes first.
struct Packer {
  ThreadPool thread{1};
  std::unique_ptr<compute::Backend> backend;
};

void describe(const ExpertMemoryOptions& options, const ExpertSizes& sizes, uint64_t budget) {
  const char* io = options.io == ExpertIo::kDirect ? "read directly" : "mapped";
  spdlog::info("experts: {} of {} in memory, {}; eviction {}, {} loading threads",
               describe_bytes(std::min(budget, sizes.total_bytes)),
               describe_bytes(sizes.total_bytes), io, options.eviction, options.num_loaders);
  if (options.memory_bytes > 0) return;
  spdlog::warn(
      "the experts do not fit into memory: they are loaded when they are needed, which is slow "
      "(--expert-memory says how much they may take)");
}

}  // namespace

Result<ExpertSizes> measure_experts(const model::Checkpoint& checkpoint,
                                    const worker::ReadExpert& read) {
  const model::ModelConfig& config = checkpoint.config();
  ExpertSizes sizes{.num_layers = config.num_layers()};
  worker::ExpertKey largest;
  size_t largest_width = 0, total_width = 0;
  for (uint32_t layer = 0; layer < config.num_layers(); ++layer) {
    if (!config.layers[layer].is_moe) continue;
    for (uint32_t e = 0; e < config.num_experts; ++e) {
      const size_t width = config.expert_size(LayerIdx(layer), ExpertId(e));
      total_width += width;
      ++sizes.count;
      if (width <= largest_width) continue;
      largest_width = width;
      largest = {LayerIdx(layer), ExpertId(e)};
    }
  }
  if (sizes.count == 0) return sizes;
  PREGATE_ASSIGN(const auto expert, read(largest.first, largest.second));
  sizes.largest_bytes = expert->bytes();
  sizes.total_bytes = sizes.largest_bytes * ((total_width + largest_width - 1) / largest_width);
  return sizes;
}

uint64_t expert_budget(const ExpertMemoryOptions& options, const ExpertSizes& sizes,
                       uint64_t kv_cache_bytes, uint64_t available_bytes) {
  if (sizes.count == 0) return 0;
  if (options.memory_bytes > 0) return options.memory_bytes;
  const uint64_t room = less_reserve(available_bytes);
  if (available_bytes == 0 || sizes.total_bytes <= room) return 0;
  return room - std::min(kv_cache_bytes, room / 2);
}

Result<std::vector<worker::ReadExpert>> expert_readers(
    const std::shared_ptr<const model::Checkpoint>& checkpoint, const std::string& backend,
    compute::WeightFormat format, const ExpertMemoryOptions& options) {
  std::shared_ptr<const model::DirectFiles> direct;
  if (options.io == ExpertIo::kDirect) {
    PREGATE_ASSIGN(direct, model::DirectFiles::open(*checkpoint));
  }
  std::vector<worker::ReadExpert> readers;
  for (size_t i = 0; i < options.num_loaders; ++i) {
    const auto packer = std::make_shared<Packer>();
    PREGATE_ASSIGN(packer->backend, compute::make_backend(backend, packer->thread));
    readers.push_back([=](LayerIdx layer, ExpertId expert) {
      return model::load_expert(*checkpoint, layer, expert, *packer->backend, format, direct.get());
    });
  }
  return readers;
}

Result<std::unique_ptr<worker::ExpertCache>> make_expert_cache(
    std::vector<worker::ReadExpert> readers, const ExpertMemoryOptions& options,
    const ExpertSizes& sizes, const compute::Backend& backend, worker::CacheProbe& probe) {
  if (options.memory_bytes < sizes.largest_bytes) {
    return fail(ErrorCode::kInvalidArgument,
                "--expert-memory {}: expected at least {}, which the largest expert of the model "
                "takes; all together take {}",
                options.memory_bytes, sizes.largest_bytes, sizes.total_bytes);
  }
  const std::optional<size_t> free_bytes = backend.free_bytes();
  if (free_bytes && std::min(options.memory_bytes, sizes.total_bytes) > *free_bytes) {
    return fail(ErrorCode::kInvalidArgument, "--expert-memory {}: {} has {} free for experts",
                options.memory_bytes, backend.name(), *free_bytes);
  }
  PREGATE_ASSIGN(auto policy,
                 worker::make_eviction_policy(options.eviction, {.seed = seed_from_system(),
                                                                 .num_layers = sizes.num_layers}));
  return worker::ExpertCache::create(
      std::move(readers), std::move(policy),
      {.memory_bytes = options.memory_bytes, .expert_bytes = sizes.largest_bytes}, system_clock(),
      probe);
}

ModelRuntime::ConnectExperts connect_local_experts(const LocalExpertsOptions& options,
                                                   MakeCacheProbe make_probe,
                                                   PhaseProgress progress) {
  return [=](std::shared_ptr<const model::Checkpoint> checkpoint,
             compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
    const compute::WeightFormat format = options.model.weights;
    PREGATE_ASSIGN(auto readers,
                   expert_readers(checkpoint, backend.name(), format, options.memory));
    PREGATE_ASSIGN(const ExpertSizes sizes, measure_experts(*checkpoint, readers.front()));
    ExpertMemoryOptions memory = options.memory;
    const std::optional<size_t> free_bytes = backend.free_bytes();
    // The KV cache has been taken of a device's memory already.
    memory.memory_bytes = expert_budget(memory, sizes, free_bytes ? 0 : options.kv_cache_bytes,
                                        free_bytes.value_or(available_memory_bytes()));
    if (memory.memory_bytes == 0) {
      return ModelRuntime::local_experts(format, progress)(checkpoint, backend);
    }
    describe(options.memory, sizes, memory.memory_bytes);
    PREGATE_ASSIGN(auto cache,
                   make_expert_cache(std::move(readers), memory, sizes, backend, make_probe()));
    return std::make_unique<worker::CachedExperts>(backend, std::move(cache),
                                                   checkpoint->config().num_layers());
  };
}

}  // namespace pregate::cli
