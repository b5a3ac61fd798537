// From the logits of one row to the next token.
#pragma once

#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/random.h"
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

  /// Whether sample() gives the token of the largest logit, and nothing else, whatever they are.
  bool takes_largest(std::span<const TokenId> forbidden) const;
  /// In place of sample() then: `token` is that of the largest of the first vocab_size logits.
  SampledToken take_largest(TokenId token);

  const SamplingParams& params() const { return params_; }

 private:
  struct Candidate {
    TokenId token;
    float value;  // logit, later probability
  };
  struct History {
    bool in_prompt = false;
    uint32_t num_generated = 0;
  };

  bool is_plain_greedy() const;
  void adjust_logits(std::span<const TokenId> forbidden);
  TokenId draw();
  void gather_candidates();
  void apply_top_p();

  const SamplingParams params_;
  Random random_;
  std::unordered_map<TokenId, History> history_;
  std::vector<float> logits_;          // scratch
  std::vector<Candidate> candidates_;  // scratch
};

}  // namespace pregate::engine
