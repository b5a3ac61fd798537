#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "compute/largest.h"

namespace pregate::engine {
namespace {

using compute::largest;

float log_sum_exp(std::span<const float> logits) {
  const float max = largest(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + static_cast<float>(std::log(sum));
}

// Different requests with the same seed agree; different choices of one request do not.
uint64_t mix(uint64_t seed, uint32_t stream) { return seed + stream * 0x9e3779b97f4a7c15ull; }

bool penalizes_generated(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

}  // namespace

float log_probability(std::span<const float> logits, TokenId token) {
  return logits[static_cast<size_t>(token)] - log_sum_exp(logits);
}

SampledToken report_logprobs(std::span<const float> logits, TokenId token, uint32_t num_top) {
  const float normalizer = log_sum_exp(logits);
  SampledToken report{token, logits[token] - normalizer, {}};
  std::vector<TokenId> order(logits.size());
  for (size_t t = 0; t < order.size(); ++t) order[t] = static_cast<TokenId>(t);
  const size_t count = std::min<size_t>(num_top, order.size());
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](TokenId a, TokenId b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  });
  for (size_t i = 0; i < count; ++i) {
    report.top.push_back({order[i], logits[order[i]] - normalizer});
  }
  return report;
}

Sampler::Sampler(SamplingParams params, std::span<const TokenId> prompt, uint64_t seed,
                 uint32_t stream)
    : params_(std::move(params)),
      random_(mix(params_.seed.value_or(seed), stream)),
      draw_{.temperature = params_.temperature,
            .min_p = params_.min_p,
            .top_k = static_cast<uint32_t>(std::max(params_.top_k, 0)),
            .top_p = params_.top_p,
            .place = random_.next_double()} {
  for (const auto& [token, bias] : params_.logit_bias) {
    biases_.push_back({static_cast<uint32_t>(token), bias});
  }
  if (params_.repetition_penalty == 1.0f) return;
  for (const TokenId token : prompt) said(token);
}

SampledToken Sampler::sample(std::span<const float> all_logits, size_t vocab_size,
                             std::span<const TokenId> forbidden) {
  PREGATE_CHECK(vocab_size > 0 && vocab_size <= all_logits.size());
  const std::span<const float> logits = all_logits.first(vocab_size);
  const auto token = static_cast<TokenId>(compute::draw(logits, make_draw(forbidden)));
  remember(token);
  if (!params_.logprobs) return {token, 0.0f, {}};
  return report_logprobs(logits, token, *params_.logprobs);
}

std::optional<compute::Draw> Sampler::next_draw(std::span<const TokenId> forbidden) {
  if (params_.logprobs) return std::nullopt;
  return make_draw(forbidden);
}

SampledToken Sampler::take_drawn(TokenId token) {
  remember(token);
  return {token, 0.0f, {}};
}

compute::Draw Sampler::make_draw(std::span<const TokenId> forbidden) {
  forbidden_.assign(forbidden.begin(), forbidden.end());
  compute::Draw draw = draw_;
  draw.changes = {.biases = biases_,
                  .said = said_,
                  .penalties = {.repetition = params_.repetition_penalty,
                                .frequency = params_.frequency_penalty,
                                .presence = params_.presence_penalty},
                  .forbidden = forbidden_};
  return draw;
}

compute::SaidToken& Sampler::said(TokenId token) {
  const auto [place, is_new] = places_.emplace(token, said_.size());
  if (is_new) said_.push_back({.token = static_cast<uint32_t>(token)});
  return said_[place->second];
}

void Sampler::remember(TokenId token) {
  if (penalizes_generated(params_)) ++said(token).num_generated;
  if (!compute::takes_largest(draw_)) draw_.place = random_.next_double();
}

}  // namespace pregate::engine
