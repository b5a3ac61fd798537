// How a token is drawn from its logits: every back end draws the same one (draw_parts.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compute/logit_changes.h"

namespace pregate::compute {

/// Out of one row of logits. Names as in engine::SamplingParams, and done in this order. Tokens
/// that are as likely as the last one let in by top_k or top_p are let in too.
struct Draw {
  float temperature = 0.0f;  ///< 0: the token that find_largest() says; the rest is not read.
  float min_p = 0.0f;        ///< [0, 1], of the most likely token's probability.
  uint32_t top_k = 0;        ///< 0: all.
  float top_p = 1.0f;        ///< (0, 1]
  /// In [0, 1), by chance: the token's place among the probabilities, which follow one another in
  /// order of tokens.
  double place = 0.0;
  LogitChanges changes;  ///< Of the logits, before all of this.
};

constexpr bool takes_largest(const Draw& draw) { return draw.temperature == 0.0f; }
/// Whether there can be more tokens, of `num_tokens`, than top_k, or top_p, lets in.
constexpr bool has_top_k(const Draw& draw, size_t num_tokens) {
  return draw.top_k > 0 && draw.top_k < num_tokens;
}
constexpr bool has_top_p(const Draw& draw) { return draw.top_p < 1.0f; }
constexpr bool is_cut(const Draw& draw, size_t num_tokens) {
  return !takes_largest(draw) && (has_top_k(draw, num_tokens) || has_top_p(draw));
}

/// A NaN is never drawn, nor what is 2^40 times less likely than another; 0 if all are NaN. Of
/// at least one, and at most kMaxDrawable.
uint32_t draw(std::span<const float> logits, const Draw& draw);
/// The same, which leaves the logits changed, and so needs no copy of them.
uint32_t draw_in_place(std::span<float> logits, const Draw& draw);
inline constexpr size_t kMaxDrawable = size_t{1} << 22;

}  // namespace pregate::compute
