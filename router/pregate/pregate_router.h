// Read-ME's pre-gating router (Cai et al. 2024, arXiv 2410.19123): a transformer layer of its own
// that reads token ids only, so a token's expert is known before its first layer is computed, and
// is the same one in all layers.
//
// The equations are the published code's: RMS norms with epsilon 1e-6, rotary positions, scores
// divided by `normalizer` and not by the root of the head size, an MLP of two matrices with SiLU
// between, biases everywhere, argmax. Its own keys and values lie in the sequence's KV blocks, in a
// cache beside the model's, so that prefixes shared, blocks preempted and steps repeated mean the
// same for both.
#pragma once

#include <memory>
#include <vector>

#include "model/rotary.h"
#include "model/weights.h"
#include "router/router.h"

namespace pregate::router {

class PregateRouter final : public Router {
 public:
  struct Blocks {
    size_t num_kv = 0;       ///< As the engine has.
    size_t num_preview = 0;  ///< See num_preview_blocks().
  };
  /// Back end and checkpoint must outlive it. Errors: as Backend::allocate_kv().
  static Result<std::unique_ptr<PregateRouter>> create(const model::ModelConfig& config,
                                                       model::PregateWeights weights,
                                                       compute::Backend& backend, Blocks blocks);

  Horizon horizon() const override { return Horizon::kAllLayers; }
  Status begin_step(const StepTokens& step) override;
  std::span<const ExpertId> decided(LayerIdx /*layer*/) const override { return experts_; }
  void route(LayerIdx layer, compute::Matrix<const float> rows, Decisions& out) override;
  Status preview(const StepTokens& rows, std::vector<ExpertId>& experts) override;
  size_t num_preview_blocks() const override { return num_preview_blocks_; }

 private:
  using Rows = compute::Matrix<float>;

  PregateRouter(const model::ModelConfig& config, model::PregateWeights weights,
                compute::Backend& backend, size_t num_preview_blocks);
  Status decide(const StepTokens& step, std::vector<ExpertId>& experts);
  void attend(const StepTokens& step, Rows hidden);
  void feed_forward(Rows hidden);
  void apply(const model::AffineMap& map, Rows in, Rows out);

  const model::PregateConfig config_;
  const size_t num_experts_;
  const model::PregateWeights weights_;
  compute::Backend& backend_;
  const size_t num_preview_blocks_;
  const model::Rotary rotary_;
  std::unique_ptr<compute::KvStorage> kv_;
  std::vector<ExpertId> experts_;  // [n], of the current step

  // Scratch, [n, ..].
  std::vector<float> hidden_, normed_, q_, k_, v_, context_, inner_, out_, logits_, cos_, sin_;
};

}  // namespace pregate::router
