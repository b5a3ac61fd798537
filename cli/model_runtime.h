// A model ready to compute: checkpoint, back end, router, experts and engine put together.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/thread_pool.h"
#include "engine/engine.h"
#include "model/checkpoint/checkpoint.h"
#include "router/lookahead/sources.h"
#include "router/router.h"

namespace pregate::cli {

/// Null: no look-ahead. What the parts refer to lives as long as the runtime.
using MakeLookahead =
    std::function<Result<std::unique_ptr<router::Lookahead>>(const router::LookaheadParts&)>;

/// compute::make_backend(), or another that knows more names.
using MakeBackend = std::function<Result<std::unique_ptr<compute::Backend>>(const std::string& name,
                                                                            ThreadPool& threads)>;

struct RuntimeOptions {
  std::filesystem::path model;
  compute::WeightFormat weights = compute::WeightFormat::kBf16;
  compute::DType kv_dtype = compute::DType::kBf16;
  std::string backend = "cpu";
  MakeBackend make_backend = compute::make_backend;
  size_t num_threads = 1;
  uint64_t kv_cache_bytes = 0;
  size_t max_model_len =
      0;  ///< 0: what the model was configured for, as far as the cache holds it.
  size_t max_num_seqs = 64;  ///< More KV cache than so many longest sequences need is not taken.
  MakeLookahead make_lookahead = {};  ///< Empty: none.
  /// The router will be asked for experts before the steps that compute them. kInvalidArgument if
  /// it cannot answer.
  bool preview_experts = false;
};

/// Told what is being loaded, for people: ("experts", done, total).
using PhaseProgress =
    std::function<void(const std::string& phase, size_t done_bytes, size_t total_bytes)>;

class ModelRuntime {
 public:
  /// Makes the client through which the engine reaches the experts, wherever they are.
  using ConnectExperts = std::function<Result<std::unique_ptr<engine::ExpertClient>>(
      std::shared_ptr<const model::Checkpoint>, compute::Backend&)>;

  static Result<std::unique_ptr<ModelRuntime>> load(const RuntimeOptions& options,
                                                    const ConnectExperts& connect_experts,
                                                    const PhaseProgress& progress);

  /// All experts in this process.
  static ConnectExperts local_experts(compute::WeightFormat format, PhaseProgress progress);

  const model::Checkpoint& checkpoint() const { return *checkpoint_; }
  const model::ModelConfig& config() const { return checkpoint_->config(); }
  compute::Backend& backend() { return *backend_; }
  ThreadPool& threads() { return *threads_; }
  engine::Engine& engine() { return *engine_; }
  size_t num_kv_blocks() const { return num_kv_blocks_; }
  size_t max_model_len() const { return max_model_len_; }

 private:
  ModelRuntime() = default;
  compute::KvShape cache_shape(const RuntimeOptions& options) const;
  Status size_cache(const RuntimeOptions& options);
  Result<std::unique_ptr<compute::KvStorage>> allocate_cache(const RuntimeOptions& options);
  Status start_lookahead(const MakeLookahead& make, const model::BackboneWeights& weights);
  size_t num_preview_blocks(const RuntimeOptions& options) const;

  // In the order in which the later ones refer to the earlier ones.
  std::unique_ptr<ThreadPool> threads_;
  std::unique_ptr<compute::Backend> backend_;
  std::shared_ptr<const model::Checkpoint> checkpoint_;
  size_t num_kv_blocks_ = 0;
  size_t max_model_len_ = 0;
  std::unique_ptr<router::Router> router_;
  std::unique_ptr<router::Lookahead> lookahead_;  // null: none
  std::unique_ptr<engine::ExpertClient> experts_;
  std::unique_ptr<engine::Engine> engine_;
};

}  // namespace pregate::cli
