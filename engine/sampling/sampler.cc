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

TokenId argmax(std::span<const float> logits) {
  return static_cast<TokenId>(compute::find_largest(logits));
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
    : params_(std::move(params)), random_(mix(params_.seed.value_or(seed), stream)) {
  for (const TokenId token : prompt) history_[token].in_prompt = true;
}

SampledToken Sampler::sample(std::span<const float> all_logits, size_t vocab_size,
                             std::span<const TokenId> forbidden) {
  PREGATE_CHECK(vocab_size > 0 && vocab_size <= all_logits.size());
  const std::span<const float> logits = all_logits.first(vocab_size);
  TokenId token;
  if (is_plain_greedy() && forbidden.empty()) {
    token = argmax(logits);
  } else {
    logits_.assign(logits.begin(), logits.end());
    adjust_logits(forbidden);
    token = params_.temperature == 0.0f ? argmax(logits_) : draw();
  }
  ++history_[token].num_generated;
  if (!params_.logprobs) return {token, 0.0f, {}};
  return report_logprobs(logits, token, *params_.logprobs);
}

bool Sampler::takes_largest(std::span<const TokenId> forbidden) const {
  return is_plain_greedy() && forbidden.empty() && !params_.logprobs;
}

SampledToken Sampler::take_largest(TokenId token) {
  ++history_[token].num_generated;
  return {token, 0.0f, {}};
}

bool Sampler::is_plain_greedy() const {
  return params_.temperature == 0.0f && params_.logit_bias.empty() &&
         params_.presence_penalty == 0.0f && params_.frequency_penalty == 0.0f &&
         params_.repetition_penalty == 1.0f;
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

TokenId Sampler::draw() {
  gather_candidates();
  if (params_.top_p < 1.0f) apply_top_p();
  double total = 0.0;
  for (const Candidate& candidate : candidates_) total += candidate.value;
  double left = random_.next_double() * total;
  for (const Candidate& candidate : candidates_) {
    left -= candidate.value;
    if (left < 0.0) return candidate.token;
  }
  return candidates_.back().token;
}

// Turns logits_ into candidates_ with (unnormalised) probabilities, after temperature, min_p and
// top_k.
void Sampler::gather_candidates() {
  const float max = largest(logits_);
  const float scale = 1.0f / params_.temperature;
  candidates_.clear();
  for (size_t t = 0; t < logits_.size(); ++t) {
    const float probability = std::exp((logits_[t] - max) * scale);
    if (probability > 0.0f && probability >= params_.min_p) {
      candidates_.push_back({static_cast<TokenId>(t), probability});
    }
  }
  const size_t top_k = params_.top_k > 0 ? static_cast<size_t>(params_.top_k) : candidates_.size();
  if (top_k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + top_k, candidates_.end(),
                   [](const Candidate& a, const Candidate& b) {
                     return a.value > b.value || (a.value == b.value && a.token < b.token);
                   });
  candidates_.resize(top_k);
}

// Keeps the most probable candidates that together reach top_p of the probability.
void Sampler::apply_top_p() {
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.value > b.value || (a.value == b.value && a.token < b.token);
  });
  double total = 0.0;
  for (const Candidate& candidate : candidates_) total += candidate.value;
  double reached = 0.0;
  size_t kept = 0;
  while (kept < candidates_.size() && reached < params_.top_p * total) {
    reached += candidates_[kept++].value;
  }
  candidates_.resize(std::max<size_t>(kept, 1));
}

}  // namespace pregate::engine
