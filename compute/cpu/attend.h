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
  static auto vector(const std::byte* from) { return load_bf16<Isa::kLanes>(from); }
};

/// scores[query][token] = q . key, for the 16 tokens of a block.
template <class Isa, class Elements, size_t kQueries>
void score_block(const AttentionSpan& span, size_t block, float (*scores)[kSpanTokens]) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  constexpr size_t kVectors = kBlockTokens / Isa::kLanes;
  const std::byte* keys = span.keys[block];
  const float* q[kQueries];
  F32 sums[kQueries][kVectors] = {};
  for (size_t i = 0; i < kQueries; ++i) q[i] = span.queries[i].q;
  for (size_t d = 0; d < span.head_dim; ++d, keys += kBlockTokens * Elements::kBytes) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      const F32 key = Elements::vector(keys + v * Isa::kLanes * Elements::kBytes);
#pragma GCC unroll 4
      for (size_t i = 0; i < kQueries; ++i) {
        sums[i][v] = Isa::fma(broadcast<F32>(q[i][d]), key, sums[i][v]);
      }
    }
  }
  for (size_t i = 0; i < kQueries; ++i) {
    for (size_t v = 0; v < kVectors; ++v) {
      store(scores[i] + block * kBlockTokens + v * Isa::kLanes, sums[i][v] * span.scale);
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

/// sum = sum * change + weights . values. Tokens no query sees are not read: their slots may never
/// have been written, or hold another sequence by now.
template <class Isa, class Elements, size_t kQueries>
void add_values(const AttentionSpan& span, const float* changes, float (*weights)[kSpanTokens]) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  const size_t width = padded_head_dim(span.head_dim);
  size_t first = kSpanTokens, end = 0;
  for (size_t i = 0; i < kQueries; ++i) {
    const QueryState& query = span.queries[i];
    const size_t from = query.first > span.first_position ? query.first - span.first_position : 0;
    const size_t to = query.end > span.first_position ? query.end - span.first_position : 0;
    first = from < first ? from : first;
    end = to > end ? to : end;
  }
  end = end < kSpanTokens ? end : kSpanTokens;
  for (size_t d = 0; d < width; d += Isa::kLanes) {
    F32 sums[kQueries];
#pragma GCC unroll 4
    for (size_t i = 0; i < kQueries; ++i) {
      sums[i] = load<F32>(span.queries[i].sum + d) * changes[i];
    }
    for (size_t t = first; t < end; ++t) {
      const std::byte* values = span.values[t / kBlockTokens];
      const size_t element = t % kBlockTokens * width + d;
      const F32 value = Elements::vector(values + element * Elements::kBytes);
#pragma GCC unroll 4
      for (size_t i = 0; i < kQueries; ++i) {
        sums[i] = Isa::fma(broadcast<F32>(weights[i][t]), value, sums[i]);
      }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < kQueries; ++i) store(span.queries[i].sum + d, sums[i]);
  }
}

template <class Isa, class Elements, size_t kQueries>
void attend_queries(const AttentionSpan& span) {
  float scores[kQueries][kSpanTokens] = {};
  for (size_t block = span.first_block; block < span.end_block; ++block) {
    score_block<Isa, Elements, kQueries>(span, block, scores);
  }
  float changes[kQueries];
  for (size_t i = 0; i < kQueries; ++i) {
    changes[i] = soften<Isa>(span, span.queries[i], scores[i]);
  }
  add_values<Isa, Elements, kQueries>(span, changes, scores);
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
