// A span of attention for a few queries of one KV head (see AttentionSpan).
// Included only by the kernel sources; everything is internal to them.
#pragma once

#include "compute/cpu/kernels.h"
#include "compute/cpu/vector.h"

namespace pregate::compute::cpu {
namespace {

constexpr size_t kBlockTokens = kSpanTokens / kSpanBlocks;
constexpr float kMinusInfinity = -__builtin_inff();

/// Elements of the KV cache as f32 vectors.
template <class Isa>
struct F32Elements {
  static constexpr size_t kBytes = 4;
  static auto vector(const std::byte* from) {
    return load<typename Vectors<Isa::kLanes>::F32>(from);
  }
};

template <class Isa>
struct Bf16Elements {
  static constexpr size_t kBytes = 2;
  static auto vector(const std::byte* from) { return Isa::load_bf16(from); }
};

/// scores[query][token] = q . key * scale for the tokens of kBlocks blocks.
template <class Isa, class Elements, size_t kQueries, size_t kBlocks>
void score_blocks(const AttentionSpan& span, size_t first_block, float (*scores)[kSpanTokens]) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  constexpr size_t kVectors = kBlockTokens / Isa::kLanes;
  const float* q[kQueries];
  F32 sums[kQueries][kBlocks][kVectors] = {};
  for (size_t i = 0; i < kQueries; ++i) q[i] = span.queries[i].q;
  for (size_t d = 0; d < span.head_dim; ++d) {
#pragma GCC unroll 4
    for (size_t b = 0; b < kBlocks; ++b) {
      const std::byte* keys = span.keys[first_block + b] + d * kBlockTokens * Elements::kBytes;
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) {
        const F32 key = Elements::vector(keys + v * Isa::kLanes * Elements::kBytes);
#pragma GCC unroll 4
        for (size_t i = 0; i < kQueries; ++i) {
          sums[i][b][v] = Isa::fma(broadcast<F32>(q[i][d]), key, sums[i][b][v]);
        }
      }
    }
  }
  for (size_t i = 0; i < kQueries; ++i) {
    float* out = scores[i] + first_block * kBlockTokens;
    for (size_t b = 0; b < kBlocks; ++b) {
      for (size_t v = 0; v < kVectors; ++v, out += Isa::kLanes) {
        store(out, sums[i][b][v] * span.scale);
      }
    }
  }
}

/// Removes what the query does not see.
inline void mask(const AttentionSpan& span, const QueryState& query, float* scores) {
  if (query.first <= span.first_position && query.end >= span.first_position + kSpanTokens) return;
  for (size_t t = 0; t < kSpanTokens; ++t) {
    const size_t position = span.first_position + t;
    if (position < query.first || position >= query.end) scores[t] = kMinusInfinity;
  }
}

template <class Isa>
float largest_score(const float* scores, float largest_so_far) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  F32 lanes = broadcast<F32>(largest_so_far);
  for (size_t t = 0; t < kSpanTokens; t += Isa::kLanes) {
    const auto next = load<F32>(scores + t);
    lanes = next > lanes ? next : lanes;
  }
  float largest = largest_so_far;
  for (size_t lane = 0; lane < Isa::kLanes; ++lane) {
    largest = lanes[lane] > largest ? lanes[lane] : largest;
  }
  return largest;
}

/// Turns scores into weights relative to the largest score so far; returns what the sums of earlier
/// spans must be multiplied with.
template <class Isa>
float soften(const AttentionSpan& span, QueryState& query, float* scores) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  mask(span, query, scores);
  const float largest = largest_score<Isa>(scores, query.largest);
  F32 totals{};
  for (size_t t = 0; t < kSpanTokens; t += Isa::kLanes) {
    const F32 weights = exp<Isa::kLanes>(load<F32>(scores + t) - largest);
    store(scores + t, weights);
    totals += weights;
  }
  float total = 0.0f;
  for (size_t lane = 0; lane < Isa::kLanes; ++lane) total += totals[lane];
  const F32 change = exp<Isa::kLanes>(broadcast<F32>(query.largest - largest));
  query.largest = largest;
  query.total = query.total * change[0] + total;
  return change[0];
}

/// Tokens of the span that any query sees. The others are not read: their slots may never have been
/// written, or hold another sequence by now.
struct SeenTokens {
  size_t first = kSpanTokens, end = 0;
};

inline SeenTokens seen_tokens(const AttentionSpan& span) {
  SeenTokens seen;
  for (size_t i = 0; i < span.num_queries; ++i) {
    const QueryState& query = span.queries[i];
    const size_t first = query.first > span.first_position ? query.first - span.first_position : 0;
    const size_t end = query.end > span.first_position ? query.end - span.first_position : 0;
    seen.first = first < seen.first ? first : seen.first;
    seen.end = end > seen.end ? end : seen.end;
  }
  seen.end = seen.end < kSpanTokens ? seen.end : kSpanTokens;
  return seen;
}

/// sum = sum * change + weights . values in kVectors vectors of columns from `first_col` on.
template <class Isa, class Elements, size_t kQueries, size_t kVectors>
void add_values(const AttentionSpan& span, const float* changes, float (*weights)[kSpanTokens],
                size_t first_col) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  const SeenTokens seen = seen_tokens(span);
  F32 sums[kQueries][kVectors];
  for (size_t i = 0; i < kQueries; ++i) {
    const float* sum = span.queries[i].sum + first_col;
    for (size_t v = 0; v < kVectors; ++v) {
      sums[i][v] = load<F32>(sum + v * Isa::kLanes) * changes[i];
    }
  }
  for (size_t t = seen.first; t < seen.end; ++t) {
    const size_t element = t % kBlockTokens * span.value_width + first_col;
    const std::byte* values = span.values[t / kBlockTokens] + element * Elements::kBytes;
#pragma GCC unroll 8
    for (size_t v = 0; v < kVectors; ++v) {
      const F32 value = Elements::vector(values + v * Isa::kLanes * Elements::kBytes);
#pragma GCC unroll 4
      for (size_t i = 0; i < kQueries; ++i) {
        sums[i][v] = Isa::fma(broadcast<F32>(weights[i][t]), value, sums[i][v]);
      }
    }
  }
  for (size_t i = 0; i < kQueries; ++i) {
    float* sum = span.queries[i].sum + first_col;
    for (size_t v = 0; v < kVectors; ++v) store(sum + v * Isa::kLanes, sums[i][v]);
  }
}

template <class Isa, class Elements, size_t kQueries>
void attend_queries(const AttentionSpan& span) {
  // Few queries take more keys and columns at once: eight sums in flight hide how long one takes.
  constexpr size_t kBlocks = kQueries <= 2 ? 2 : 1;
  constexpr size_t kVectors = kQueries == 1 ? 8 : kQueries == 2 ? 4 : 2;
  float scores[kQueries][kSpanTokens] = {};
  size_t block = span.first_block;
  for (; block + kBlocks <= span.end_block; block += kBlocks) {
    score_blocks<Isa, Elements, kQueries, kBlocks>(span, block, scores);
  }
  for (; block < span.end_block; ++block) {
    score_blocks<Isa, Elements, kQueries, 1>(span, block, scores);
  }
  float changes[kQueries];
  for (size_t i = 0; i < kQueries; ++i) {
    changes[i] = soften<Isa>(span, span.queries[i], scores[i]);
  }
  size_t col = 0;
  for (; col + kVectors * Isa::kLanes <= span.value_width; col += kVectors * Isa::kLanes) {
    add_values<Isa, Elements, kQueries, kVectors>(span, changes, scores, col);
  }
  for (; col < span.value_width; col += Isa::kLanes) {
    add_values<Isa, Elements, kQueries, 1>(span, changes, scores, col);
  }
}

template <class Isa, class Elements>
void attend(const AttentionSpan& span) {
  constexpr void (*kByQueries[kMaxQueries])(const AttentionSpan&) = {
      attend_queries<Isa, Elements, 1>, attend_queries<Isa, Elements, 2>,
      attend_queries<Isa, Elements, 3>, attend_queries<Isa, Elements, 4>};
  kByQueries[span.num_queries - 1](span);
}

}  // namespace
}  // namespace pregate::compute::cpu
