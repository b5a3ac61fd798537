// How the next token is chosen; names and meanings as in vLLM's SamplingParams.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "base/ids.h"

namespace pregate::engine {

struct SamplingParams {
  float temperature = 1.0f;  ///< 0: greedy.
  float top_p = 1.0f;        ///< (0, 1]
  int32_t top_k = -1;        ///< -1 or 0: all.
  float min_p = 0.0f;        ///< [0, 1]: tokens under min_p * (probability of the best) are out.
  std::optional<uint64_t> seed;
  float presence_penalty = 0.0f;    ///< [-2, 2], over what was generated.
  float frequency_penalty = 0.0f;   ///< [-2, 2], over what was generated.
  float repetition_penalty = 1.0f;  ///< > 0, over prompt and generated.
  std::unordered_map<TokenId, float> logit_bias;
  std::optional<uint32_t> logprobs;  ///< Alternatives to report; 0: the chosen token only.
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0f;
};

}  // namespace pregate::engine
