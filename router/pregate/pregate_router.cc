#include "router/pregate/pregate_router.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "compute/f32_rows.h"
#include "compute/source.h"

namespace pregate::router {
namespace {

using compute::Matrix;

constexpr float kEpsilon = 1e-6f;

Matrix<float> resized(std::vector<float>& storage, size_t rows, size_t cols) {
  storage.resize(rows * cols);
  return {storage.data(), rows, cols};
}

/// Plain rotary positions over the router's own heads, with the model's base.
model::Rotary make_rotary(const model::ModelConfig& config) {
  model::ModelConfig own;
  own.rope.theta = config.rope.theta;
  own.head_dim = config.pregate->attention_size / config.pregate->num_heads;
  own.max_position = config.max_position;
  return model::Rotary(own);
}

}  // namespace

Result<std::unique_ptr<PregateRouter>> PregateRouter::create(const model::ModelConfig& config,
                                                             model::PregateWeights weights,
                                                             compute::Backend& backend,
                                                             Blocks blocks) {
  std::unique_ptr<PregateRouter> router(
      new PregateRouter(config, std::move(weights), backend, blocks.num_preview));
  const model::PregateConfig& pregate = *config.pregate;
  PREGATE_ASSIGN(router->kv_,
                 backend.allocate_kv({.num_layers = 1,
                                      .num_kv_heads = pregate.num_heads,
                                      .head_dim = pregate.attention_size / pregate.num_heads,
                                      .dtype = compute::DType::kF32},
                                     blocks.num_kv + blocks.num_preview));
  return router;
}

PregateRouter::PregateRouter(const model::ModelConfig& config, model::PregateWeights weights,
                             compute::Backend& backend, size_t num_preview_blocks)
    : config_(*config.pregate),
      num_experts_(config.num_experts),
      weights_(std::move(weights)),
      backend_(backend),
      num_preview_blocks_(num_preview_blocks),
      rotary_(make_rotary(config)) {}

Status PregateRouter::begin_step(const StepTokens& step) { return decide(step, experts_); }

// A step keeps of its rows nothing but keys and values, which are the same when it comes to them.
Status PregateRouter::preview(const StepTokens& rows, std::vector<ExpertId>& experts) {
  return decide(rows, experts);
}

Status PregateRouter::decide(const StepTokens& step, std::vector<ExpertId>& experts) {
  const size_t n = step.tokens.size();
  experts.clear();
  if (n == 0) return {};
  const Rows hidden = resized(hidden_, n, config_.embedding_size);
  for (size_t r = 0; r < n; ++r) {
    const auto token = static_cast<size_t>(step.tokens[r]);
    PREGATE_TRY(compute::read_row(weights_.embedding, token, hidden.row(r)));
  }
  attend(step, hidden);
  feed_forward(hidden);
  const Rows normed = resized(normed_, n, config_.embedding_size);
  backend_.rms_norm(hidden, weights_.out_norm, kEpsilon, normed);
  const Rows logits = resized(logits_, n, num_experts_);
  apply(weights_.out, normed, logits);
  for (size_t r = 0; r < n; ++r) {
    const auto row = logits.row(r);
    experts.emplace_back(static_cast<uint32_t>(std::ranges::max_element(row) - row.begin()));
  }
  return {};
}

void PregateRouter::attend(const StepTokens& step, Rows hidden) {
  const size_t n = hidden.rows, width = config_.attention_size;
  const Rows normed = resized(normed_, n, hidden.cols);
  backend_.rms_norm(hidden, weights_.input_norm, kEpsilon, normed);
  const Rows q = resized(q_, n, width), k = resized(k_, n, width), v = resized(v_, n, width);
  apply(weights_.q, normed, q);
  apply(weights_.k, normed, k);
  apply(weights_.v, normed, v);
  rotary_.rows(step.positions, step.lengths, cos_, sin_);
  const compute::HeadOptions heads{.cos = {cos_.data(), n, cos_.size() / n},
                                   .sin = {sin_.data(), n, sin_.size() / n}};
  backend_.place_heads(*kv_, heads, step.sequences, q, k, v);
  const compute::AttentionOptions options{.layer = 0,
                                          .num_heads = config_.num_heads,
                                          .scale = static_cast<float>(1.0 / config_.normalizer),
                                          .window = 0};
  const Rows context = resized(context_, n, width);
  backend_.attention(*kv_, options, step.sequences, q, context);
  const Rows out = resized(out_, n, hidden.cols);
  apply(weights_.o, context, out);
  backend_.add(out, hidden);
}

void PregateRouter::feed_forward(Rows hidden) {
  const Rows normed = resized(normed_, hidden.rows, hidden.cols);
  backend_.rms_norm(hidden, weights_.post_attention_norm, kEpsilon, normed);
  const Rows inner = resized(inner_, hidden.rows, config_.mlp_size);
  apply(weights_.mlp_in, normed, inner);
  for (float& value : inner_) value /= 1.0f + std::exp(-value);  // SiLU
  const Rows out = resized(out_, hidden.rows, hidden.cols);
  apply(weights_.mlp_out, inner, out);
  backend_.add(out, hidden);
}

void PregateRouter::apply(const model::AffineMap& map, Rows in, Rows out) {
  backend_.linear(compute::f32_rows(in), *map.weight, map.bias, out);
}

void PregateRouter::route(LayerIdx /*layer*/, Matrix<const float> rows, Decisions& out) {
  PREGATE_CHECK(rows.rows == experts_.size());
  out.top_k = 1;
  out.expert_ids = experts_;
  out.gates.assign(experts_.size(), 1.0f);
}

}  // namespace pregate::router
