// What is done to a row of logits before a token is drawn from it: to the bit the same on the host
// and on devices.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

namespace pregate::compute {

struct TokenBias {
  uint32_t token = 0;
  float bias = 0.0f;
};

/// One of the prompt, or one that was generated so often.
struct SaidToken {
  uint32_t token = 0;
  uint32_t num_generated = 0;
};

/// Of tokens that were said. Names as in engine::SamplingParams.
struct Penalties {
  float repetition = 1.0f;  ///< > 0
  float frequency = 0.0f, presence = 0.0f;
};

/// Done in this order. A list names no token twice, but `forbidden` may; those that have no logit
/// are passed over. Lists lie in host memory, and are not this struct's own.
struct LogitChanges {
  std::span<const TokenBias> biases;
  std::span<const SaidToken> said;
  Penalties penalties;
  std::span<const uint32_t> forbidden;  ///< Also a NaN becomes kForbidden.

  constexpr bool empty() const { return biases.empty() && said.empty() && forbidden.empty(); }
};

inline constexpr float kForbidden = -std::numeric_limits<float>::infinity();

constexpr float penalize(float logit, uint32_t num_generated, const Penalties& penalties) {
  logit = logit > 0.0f ? logit / penalties.repetition : logit * penalties.repetition;
  if (num_generated == 0) return logit;
  logit -= penalties.frequency * static_cast<float>(num_generated);
  return logit - penalties.presence;
}

void change_logits(std::span<float> logits, const LogitChanges& changes);

}  // namespace pregate::compute
