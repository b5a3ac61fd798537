#include "tests/support/fake_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.h"
#include "compute/cuda/kv_layout.h"
#include "compute/number.h"
#include "tests/support/fake_rows.h"

namespace pregate::compute::cuda {
namespace {

constexpr size_t kKeys = 0, kValues = kKvTokens;

std::byte* row_at(const KvLayer& kv, size_t block, size_t head, size_t row) {
  const size_t row_bytes = kv_width(kv.dtype, kv.head_dim) * dtype_bytes(kv.dtype);
  return kv.data + ((block * kv.num_heads + head) * 2 * kKvTokens + row) * row_bytes;
}

void write_row(const KvLayer& kv, const float* from, std::byte* to) {
  const size_t width = kv_width(kv.dtype, kv.head_dim);
  for (size_t i = 0; i < width; ++i) {
    const float value = i < kv.head_dim ? from[i] : 0.0f;
    if (kv.dtype == DType::kF32) {
      std::memcpy(to + i * sizeof(float), &value, sizeof(float));
    } else {
      const uint16_t rounded = f32_to_bf16(value);
      std::memcpy(to + i * sizeof(rounded), &rounded, sizeof(rounded));
    }
  }
}

std::vector<float> read_row(const KvLayer& kv, const std::byte* from) {
  std::vector<float> row(kv.head_dim);
  for (size_t i = 0; i < row.size(); ++i) {
    if (kv.dtype == DType::kF32) {
      std::memcpy(&row[i], from + i * sizeof(float), sizeof(float));
    } else {
      uint16_t rounded;
      std::memcpy(&rounded, from + i * sizeof(rounded), sizeof(rounded));
      row[i] = bf16_to_f32(rounded);
    }
  }
  return row;
}

/// Normed and clipped.
std::vector<float> made_row(const PlaceHeadsArgs& args, const HeadRows& rows, size_t row,
                            size_t num_heads) {
  const float* const x = rows.x + row * rows.stride;
  std::vector<float> made(x, x + num_heads * args.kv.head_dim);
  if (rows.norm_width > 0) {
    fake_norm({.x = made.data(),
               .y = made.data(),
               .weight = rows.norm,
               .width = rows.norm_width,
               .num_groups = uint32_t(made.size() / rows.norm_width),
               .num_rows = 1,
               .epsilon = args.epsilon});
  }
  for (float& value : made) value = std::clamp(value, -args.limit, args.limit);
  return made;
}

void turn(const PlaceHeadsArgs& args, size_t row, std::vector<float>& heads) {
  const float* const cos = args.cos + row * args.half;
  const float* const sin = args.sin + row * args.half;
  for (size_t first = 0; first < heads.size(); first += args.kv.head_dim) {
    for (size_t j = first; j < first + args.half; ++j) {
      const float a = heads[j], b = heads[j + args.half];
      heads[j] = a * cos[j - first] - b * sin[j - first];
      heads[j + args.half] = b * cos[j - first] + a * sin[j - first];
    }
  }
}

/// One query of a tile and one split.
class Attended {
 public:
  Attended(const AttentionArgs& args, const AttentionUnit& unit, size_t kv_head, size_t index)
      : args_(args), tile_(args.tiles[unit.tile]), split_(unit.split), kv_head_(kv_head) {
    const size_t group = args.num_heads / args.kv.num_heads;
    const size_t query = tile_.first_query + index;
    row_ = tile_.first_row + query / group;
    head_ = kv_head * group + query % group;
    const size_t end = tile_.first_position + query / group + 1;
    const size_t first = args.window > 0 && end > args.window ? end - args.window : 0;
    first_split_ = first / kSplitTokens;
    first_ = std::max(first, split_ * kSplitTokens);
    end_ = std::min(end, (split_ + 1) * kSplitTokens);
  }

  void compute() const {
    if (first_ >= end_) return;
    const size_t partial = args_.first_partial[row_] + split_ - first_split_;
    PREGATE_CHECK(partial < args_.first_partial[row_ + 1]);
    const size_t index = partial * args_.num_heads + head_;
    const size_t width = kv_width(args_.kv.dtype, args_.kv.head_dim);
    float* const sums = args_.sums + index * width;
    std::fill_n(sums, width, 0.0f);
    const std::vector<float> scores = make_scores();
    SoftmaxPart part{.largest = *std::ranges::max_element(scores), .total = 0.0f};
    for (size_t i = 0; i < scores.size(); ++i) {
      const float weight = std::exp(scores[i] - part.largest);
      const std::vector<float> value = read_row(args_.kv, token(first_ + i, kValues));
      for (size_t c = 0; c < value.size(); ++c) sums[c] += weight * value[c];
      part.total += weight;
    }
    args_.parts[index] = part;
  }

 private:
  const std::byte* token(size_t position, size_t what) const {
    const size_t block = args_.blocks[tile_.first_block + position / kKvTokens];
    return row_at(args_.kv, block, kv_head_, what + position % kKvTokens);
  }

  std::vector<float> make_scores() const {
    std::vector<float> scores;
    const size_t d = args_.kv.head_dim;
    const float* q = args_.q + row_ * args_.q_stride + head_ * d;
    for (size_t position = first_; position < end_; ++position) {
      const std::vector<float> key = read_row(args_.kv, token(position, kKeys));
      float score = 0.0f;
      for (size_t i = 0; i < d; ++i) score += q[i] * key[i];
      scores.push_back(score * args_.scale);
    }
    return scores;
  }

  const AttentionArgs& args_;
  const AttentionTile& tile_;
  size_t split_, kv_head_;
  size_t row_ = 0, head_ = 0, first_split_ = 0, first_ = 0, end_ = 0;
};

void attend(const AttentionArgs& args, const AttentionWork& work) {
  for (size_t u = 0; u < work.num_units; ++u) {
    const AttentionUnit& unit = work.units[u];
    if (unit.tile == kNoTile) continue;
    const size_t num_queries = args.tiles[unit.tile].num_queries;
    PREGATE_CHECK(num_queries <= work.max_queries && work.max_queries <= kMaxTileQueries);
    for (size_t kv_head = 0; kv_head < args.kv.num_heads; ++kv_head) {
      for (size_t i = 0; i < num_queries; ++i) Attended(args, unit, kv_head, i).compute();
    }
  }
}

void combine(const AttentionArgs& args, size_t row, size_t head) {
  const size_t width = kv_width(args.kv.dtype, args.kv.head_dim), d = args.kv.head_dim;
  float* const out = args.out + row * args.out_stride + head * d;
  std::fill_n(out, d, 0.0f);
  float largest = -std::numeric_limits<float>::infinity(), total = 0.0f;
  const auto at = [&](size_t partial) { return partial * args.num_heads + head; };
  for (size_t i = args.first_partial[row]; i < args.first_partial[row + 1]; ++i) {
    largest = std::max(largest, args.parts[at(i)].largest);
  }
  for (size_t i = args.first_partial[row]; i < args.first_partial[row + 1]; ++i) {
    const float weight = std::exp(args.parts[at(i)].largest - largest);
    total += weight * args.parts[at(i)].total;
    for (size_t c = 0; c < d; ++c) out[c] += weight * args.sums[at(i) * width + c];
  }
  for (size_t c = 0; c < d; ++c) out[c] /= total;
}

}  // namespace

void fake_place_heads(const PlaceHeadsArgs& args) {
  const KvLayer& kv = args.kv;
  const size_t d = kv.head_dim;
  for (size_t row = 0; row < args.num_rows; ++row) {
    std::vector<float> q = made_row(args, args.q, row, args.num_heads);
    std::vector<float> k = made_row(args, args.k, row, kv.num_heads);
    const std::vector<float> v = made_row(args, args.v, row, kv.num_heads);
    turn(args, row, q);
    turn(args, row, k);
    std::ranges::copy(q, args.q_out + row * args.q_out_stride);
    const size_t block = args.slots[row] / kKvTokens, slot = args.slots[row] % kKvTokens;
    for (size_t head = 0; head < kv.num_heads; ++head) {
      write_row(kv, &k[head * d], row_at(kv, block, head, kKeys + slot));
      write_row(kv, &v[head * d], row_at(kv, block, head, kValues + slot));
    }
  }
}

void fake_attention(const AttentionArgs& args) {
  PREGATE_CHECK(args.few.max_queries <= kFewQueries);
  attend(args, args.few);
  attend(args, args.many);
  for (size_t row = 0; row < args.num_rows; ++row) {
    for (size_t head = 0; head < args.num_heads; ++head) combine(args, row, head);
  }
}

}  // namespace pregate::compute::cuda
