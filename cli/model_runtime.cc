#include "cli/model_runtime.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"
#include "engine/local_experts.h"
#include "router/pregate/pregate_router.h"
#include "router/topk/topk_router.h"

namespace pregate::cli {
namespace {

using compute::kKvBlockTokens;

size_t blocks_for(size_t num_tokens) { return (num_tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

/// [layer]; null where there is none.
std::vector<const compute::PackedMatrix*> gates_of(const model::BackboneWeights& weights) {
  std::vector<const compute::PackedMatrix*> gates;
  for (const auto& layer : weights.layers) gates.push_back(layer.router.get());
  return gates;
}

/// Takes a pre-gating router's weights out of the model's.
Result<std::unique_ptr<router::Router>> make_router(const model::ModelConfig& config,
                                                    model::BackboneWeights& weights,
                                                    compute::Backend& backend,
                                                    router::PregateRouter::Blocks blocks) {
  if (weights.pregate) {
    PREGATE_ASSIGN(auto router, router::PregateRouter::create(
                                    config, *std::exchange(weights.pregate, {}), backend, blocks));
    return router;
  }
  router::TopKRouter::Options options{.num_experts = config.num_experts,
                                      .top_k = config.top_k,
                                      .normalize = config.norm_topk_prob,
                                      .gates = gates_of(weights)};
  return std::make_unique<router::TopKRouter>(backend, std::move(options));
}

}  // namespace

ModelRuntime::ConnectExperts ModelRuntime::local_experts(compute::WeightFormat format,
                                                         PhaseProgress progress) {
  return [format, progress](
             std::shared_ptr<const model::Checkpoint> checkpoint,
             compute::Backend& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
    const auto report = [&](size_t done, size_t total) { progress("experts", done, total); };
    PREGATE_ASSIGN(auto experts, engine::load_all_experts(*checkpoint, backend, format, report));
    PREGATE_ASSIGN(auto local, engine::LocalExperts::create(backend, std::move(experts)));
    return local;
  };
}

Result<std::unique_ptr<ModelRuntime>> ModelRuntime::load(const RuntimeOptions& options,
                                                         const ConnectExperts& connect_experts,
                                                         const PhaseProgress& progress) {
  std::unique_ptr<ModelRuntime> runtime(new ModelRuntime);
  runtime->threads_ = std::make_unique<ThreadPool>(options.num_threads);
  PREGATE_ASSIGN(runtime->backend_, options.make_backend(options.backend, *runtime->threads_));
  PREGATE_ASSIGN(runtime->checkpoint_, model::Checkpoint::open(options.model));
  if (options.preview_experts && !runtime->config().pregate) {
    return fail(ErrorCode::kInvalidArgument,
                "--batch-policy expert-aware: the model {} has a router in each layer, which knows "
                "a token's experts only when the token is there. It needs a model with a "
                "pre-gating router; use decode-first or prefill-first",
                options.model.string());
  }
  PREGATE_TRY(runtime->size_cache(options));

  // Before the weights: what is then left of a device's memory is theirs.
  PREGATE_ASSIGN(auto kv, runtime->allocate_cache(options));
  compute::Backend& backend = *runtime->backend_;
  const auto report = [&](size_t done, size_t total) { progress("backbone", done, total); };
  PREGATE_ASSIGN(auto weights,
                 model::load_backbone(runtime->checkpoint_, backend, options.weights, report));
  PREGATE_ASSIGN(runtime->router_,
                 make_router(runtime->config(), weights, backend,
                             {.num_kv = runtime->num_kv_blocks_,
                              .num_preview = runtime->num_preview_blocks(options)}));
  PREGATE_TRY(runtime->start_lookahead(options.make_lookahead, weights));
  PREGATE_ASSIGN(runtime->experts_, connect_experts(runtime->checkpoint_, backend));
  engine::EngineParts parts{.config = runtime->config(),
                            .weights = std::move(weights),
                            .format = options.weights,
                            .backend = backend,
                            .threads = *runtime->threads_,
                            .kv = std::move(kv),
                            .router = *runtime->router_,
                            .experts = *runtime->experts_,
                            .lookahead = runtime->lookahead_.get()};
  runtime->engine_ = std::make_unique<engine::Engine>(std::move(parts));
  return runtime;
}

// The gates stay where they are when the engine takes the weights.
Status ModelRuntime::start_lookahead(const MakeLookahead& make,
                                     const model::BackboneWeights& weights) {
  if (!make) return {};
  PREGATE_ASSIGN(lookahead_, make({.moe = router::MoeLayers::of(config()),
                                   .backend = *backend_,
                                   .router = *router_,
                                   .gates = gates_of(weights)}));
  return {};
}

compute::KvShape ModelRuntime::cache_shape(const RuntimeOptions& options) const {
  return {.num_layers = config().num_layers(),
          .num_kv_heads = config().num_kv_heads,
          .head_dim = config().head_dim,
          .dtype = options.kv_dtype};
}

// Blocks that fit the byte budget, but no more than can ever be used; and the longest sequence.
Status ModelRuntime::size_cache(const RuntimeOptions& options) {
  const size_t block_bytes = backend_->kv_block_bytes(cache_shape(options));
  const size_t affordable = options.kv_cache_bytes / block_bytes;
  const size_t longest = options.max_model_len > 0 ? options.max_model_len : config().max_position;
  if (options.max_model_len > 0 && blocks_for(longest) > affordable) {
    return fail(ErrorCode::kInvalidArgument,
                "--max-model-len {}: needs {} bytes of KV cache, but --kv-cache-bytes is {}",
                longest, blocks_for(longest) * block_bytes, options.kv_cache_bytes);
  }
  if (affordable == 0) {
    return fail(ErrorCode::kInvalidArgument,
                "--kv-cache-bytes {}: expected at least {} for one block of {} tokens",
                options.kv_cache_bytes, block_bytes, kKvBlockTokens);
  }
  num_kv_blocks_ = std::min(affordable, blocks_for(longest) * options.max_num_seqs);
  max_model_len_ = std::min(longest, num_kv_blocks_ * kKvBlockTokens);
  spdlog::info("KV cache: {} blocks of {} tokens, {} bytes; context {} tokens", num_kv_blocks_,
               kKvBlockTokens, num_kv_blocks_ * block_bytes, max_model_len_);
  return {};
}

Result<std::unique_ptr<compute::KvStorage>> ModelRuntime::allocate_cache(
    const RuntimeOptions& options) {
  auto kv = backend_->allocate_kv(cache_shape(options), num_kv_blocks_);
  if (kv) return kv;
  return fail(in_context(kv.error(),
                         fmt::format("KV cache of {}", describe_bytes(options.kv_cache_bytes))));
}

// One prompt at a time, and for each sequence the block that its next token may begin.
size_t ModelRuntime::num_preview_blocks(const RuntimeOptions& options) const {
  return options.preview_experts ? blocks_for(max_model_len_) + options.max_num_seqs : 0;
}

}  // namespace pregate::cli
