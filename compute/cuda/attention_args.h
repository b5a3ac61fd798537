// The plain structs between the back end and the kernels of the KV cache, as args.h has the others.
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/types.h"

namespace pregate::compute::cuda {

/// One layer of a KV cache, as kv_layout.h has it.
struct KvLayer {
  std::byte* data = nullptr;  ///< Device address of its first block.
  DType dtype = DType::kBf16;
  uint32_t num_heads = 0;
  uint32_t head_dim = 0;
};

/// Queries, keys or values.
struct HeadRows {
  const float* x = nullptr;     ///< [num_rows][num_heads * head_dim]
  uint32_t stride = 0;          ///< Numbers from row to row.
  const float* norm = nullptr;  ///< [norm_width]
  uint32_t norm_width = 0;      ///< Numbers of a head or of all heads; 0: there is no norm.
};

/// Backend::place_heads(); what turns, to the bit of the reference.
struct PlaceHeadsArgs {
  KvLayer kv;
  HeadRows q, k, v;        ///< Of v there is no norm.
  uint32_t num_heads = 0;  ///< Of q.
  float* q_out = nullptr;  ///< As q.x, which it may be.
  uint32_t q_out_stride = 0;
  float epsilon = 0.0f;
  float limit = 0.0f;
  uint32_t half = 0;           ///< Pairs that turn: (x[j], x[j + half]) of each head.
  const float* cos = nullptr;  ///< [num_rows][half], sin too.
  const float* sin = nullptr;
  const uint32_t* slots = nullptr;  ///< [num_rows]: block * kKvTokens + token of the block.
  uint32_t num_rows = 0;
};

/// Queries of one sequence, which go through the keys and values of a KV head together. Those of a
/// KV head are counted row by row, and within a row head by head.
struct AttentionTile {
  uint32_t first_row = 0;       ///< Of the sequence, in `q`.
  uint32_t first_position = 0;  ///< Of that row.
  uint32_t first_block = 0;     ///< Of the sequence, in `blocks`.
  uint32_t first_query = 0;     ///< Of the sequence.
  uint32_t num_queries = 0;
};

/// A tile and kSplitTokens positions some of which it sees.
struct AttentionUnit {
  uint32_t tile = 0;  ///< Or kNoTile: nothing is to be done.
  uint32_t split = 0;
};
inline constexpr uint32_t kNoTile = 0xffffffffu;

struct AttentionWork {
  const AttentionUnit* units = nullptr;  ///< Device address.
  uint32_t num_units = 0;
  uint32_t max_queries = 0;  ///< Largest num_queries of their tiles; at most kMaxTileQueries.
};
inline constexpr uint32_t kMaxTileQueries = 32;
/// There is a kernel for tiles of so many queries and less.
inline constexpr uint32_t kFewQueries = 8;

/// Of a query and a split: the largest score, and the sum of exp(score - largest).
struct alignas(8) SoftmaxPart {
  float largest = 0.0f, total = 0.0f;
};

/// Attention of rows in two passes: sums of each query over each split that it sees, and then those
/// together. Partial sums of a row begin at first_partial[row], one for each split, in order.
struct AttentionArgs {
  KvLayer kv;
  uint32_t num_heads = 0;
  uint32_t window = 0;  ///< As AttentionOptions::window.
  float scale = 1.0f;
  uint32_t num_rows = 0;
  const float* q = nullptr;  ///< [num_rows][num_heads * head_dim], as is `out`.
  uint32_t q_stride = 0;     ///< Numbers from row to row.
  uint32_t out_stride = 0;
  const AttentionTile* tiles = nullptr;
  AttentionWork few, many;  ///< Units of tiles with at most kFewQueries queries, and the others.
  const uint32_t* blocks = nullptr;
  const uint32_t* first_partial = nullptr;  ///< [num_rows + 1]
  float* sums = nullptr;                    ///< [partial][num_heads][kv_width()]
  SoftmaxPart* parts = nullptr;             ///< [partial][num_heads]
  float* out = nullptr;
  /// Tables were sent right before: it must not begin until they are there.
  bool follows_tables = true;
};

}  // namespace pregate::compute::cuda
