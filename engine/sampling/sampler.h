// From the logits of one row to the next token.
#pragma once

#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/random.h"
#include "compute/draw.h"
#include "engine/sampling/sampling_params.h"

namespace pregate::engine {

struct SampledToken {
  TokenId token = 0;
  float logprob = 0.0f;           ///< Only with SamplingParams::logprobs.
  std::vector<TokenLogprob> top;  ///< Best first; only with SamplingParams::logprobs > 0.
};

/// Of `token` after a row, as the model gave it: ln softmax(logits)[token].
float log_probability(std::span<const float> logits, TokenId token);

/// Log-probabilities of a row as the model gave it (no penalty, no temperature): that of `token`,
/// and the `num_top` best.
SampledToken report_logprobs(std::span<const float> logits, TokenId token, uint32_t num_top);

/// The sampler of one sequence: parameters, random stream and what has been said so far. Order of
/// operations as in vLLM: logit_bias, penalties, temperature, min_p, top_k, top_p. Not thread-safe.
class Sampler {
 public:
  /// `seed` is used where params.seed is not set. `stream` tells the choices of one request apart.
  Sampler(SamplingParams params, std::span<const TokenId> prompt, uint64_t seed, uint32_t stream);

  /// `logits` [vocab]; tokens from `vocab_size` on (padding of the embedding) and those in
  /// `forbidden` are never chosen. Remembers what it chose.
  SampledToken sample(std::span<const float> logits, size_t vocab_size,
                      std::span<const TokenId> forbidden);

  /// How sample() draws, if it gives nothing but the token. Valid until the next call.
  std::optional<compute::Draw> next_draw(std::span<const TokenId> forbidden);
  /// In place of sample() then: `token` was drawn so from the first vocab_size logits.
  SampledToken take_drawn(TokenId token);

  const SamplingParams& params() const { return params_; }

 private:
  compute::Draw make_draw(std::span<const TokenId> forbidden);
  compute::SaidToken& said(TokenId token);
  void remember(TokenId token);

  const SamplingParams params_;
  Random random_;
  compute::Draw draw_;                      // the next one, but for its changes
  std::vector<compute::TokenBias> biases_;  // what those are, as are the next two
  std::vector<compute::SaidToken> said_;    // only as far as there are penalties for them
  std::vector<uint32_t> forbidden_;
  std::unordered_map<TokenId, size_t> places_;  // in said_
};

}  // namespace pregate::engine
