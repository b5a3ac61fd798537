#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "compute/largest.h"

namespace pregate::engine {
namespace {

using compute::largest;

constexpr float kNever = -std::numeric_limits<float>::infinity();

float log_sum_exp(std::span<const float> logits) {
  const float max = largest(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + static_cast<float>(std::log(sum));
}

// Different requests with the same seed agree; different choices of one request do not.
uint64_t mix(uint64_t seed, uint32_t stream) { return seed + stream * 0x9e3779b97f4a7c15ull; }

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
  for (const TokenId token : prompt) history_[token].in_prompt = true;
}

SampledToken Sampler::sample(std::span<const float> all_logits, size_t vocab_size,
                             std::span<const TokenId> forbidden) {
  PREGATE_CHECK(vocab_size > 0 && vocab_size <= all_logits.size());
  const std::span<const float> logits = all_logits.first(vocab_size);
  std::span<const float> adjusted = logits;
  if (adjusts_logits(forbidden)) {
    logits_.assign(logits.begin(), logits.end());
    adjust_logits(forbidden);
    adjusted = logits_;
  }
  const auto token = static_cast<TokenId>(compute::draw(adjusted, draw_));
  remember(token);
  if (!params_.logprobs) return {token, 0.0f, {}};
  return report_logprobs(logits, token, *params_.logprobs);
}

std::optional<compute::Draw> Sampler::next_draw(std::span<const TokenId> forbidden) const {
  if (adjusts_logits(forbidden) || params_.logprobs) return std::nullopt;
  return draw_;
}

SampledToken Sampler::take_drawn(TokenId token) {
  remember(token);
  return {token, 0.0f, {}};
}

void Sampler::remember(TokenId token) {
  ++history_[token].num_generated;
  if (!compute::takes_largest(draw_)) draw_.place = random_.next_double();
}

bool Sampler::adjusts_logits(std::span<const TokenId> forbidden) const {
  return !params_.logit_bias.empty() || params_.presence_penalty != 0.0f ||
         params_.frequency_penalty != 0.0f || params_.repetition_penalty != 1.0f ||
         !forbidden.empty();
}

void Sampler::adjust_logits(std::span<const TokenId> forbidden) {
  for (const auto& [token, bias] : params_.logit_bias) {
    if (static_cast<size_t>(token) < logits_.size()) logits_[token] += bias;
  }
  for (const auto& [token, seen] : history_) {
    if (static_cast<size_t>(token) >= logits_.size()) continue;
    float& logit = logits_[token];
    logit = logit > 0.0f ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (seen.num_generated == 0) continue;
    logit -= params_.frequency_penalty * static_cast<float>(seen.num_generated);
    logit -= params_.presence_penalty;
  }
  for (const TokenId token : forbidden) {
    if (static_cast<size_t>(token) < logits_.size()) logits_[token] = kNever;
  }
}

}  // namespace pregate::engine
