// The paged KV cache and attention over it.
#include <algorithm>
#include <limits>
#include <new>

#include "base/check.h"
#include "compute/cpu/backend.h"
#include "compute/cpu/loops.h"
#include "compute/kv_shape.h"
#include "compute/number.h"

namespace pregate::compute::cpu {
namespace {

constexpr size_t padded_head_dim(size_t head_dim) { return divide_up(head_dim, 16) * 16; }

static_assert(kSpanTokens == kSpanBlocks * kKvBlockTokens);

/// [layer][block][KV head], each with keys and values as AttentionSpan wants them.
class CpuKv final : public KvStorage {
 public:
  CpuKv(const KvShape& shape, size_t num_blocks)
      : shape_(shape),
        num_blocks_(num_blocks),
        buffer_(shape.num_layers * num_blocks * shape.num_kv_heads * head_bytes(shape)) {}
  const KvShape& shape() const override { return shape_; }
  size_t num_blocks() const override { return num_blocks_; }

  /// Bytes of one head in one block of one layer.
  static size_t head_bytes(const KvShape& shape) {
    return key_bytes(shape) +
           kKvBlockTokens * padded_head_dim(shape.head_dim) * dtype_bytes(shape.dtype);
  }
  const std::byte* keys(size_t layer, size_t block, size_t head) const {
    PREGATE_CHECK(layer < shape_.num_layers && block < num_blocks_);
    const size_t index = (layer * num_blocks_ + block) * shape_.num_kv_heads + head;
    return buffer_.data() + index * head_bytes(shape_);
  }
  const std::byte* values(size_t layer, size_t block, size_t head) const {
    return keys(layer, block, head) + key_bytes(shape_);
  }
  std::byte* mutable_keys(size_t layer, size_t block, size_t head) {
    return buffer_.data() + (keys(layer, block, head) - buffer_.data());
  }
  std::byte* mutable_values(size_t layer, size_t block, size_t head) {
    return mutable_keys(layer, block, head) + key_bytes(shape_);
  }

 private:
  static size_t key_bytes(const KvShape& shape) {
    return kKvBlockTokens * shape.head_dim * dtype_bytes(shape.dtype);
  }

  KvShape shape_;
  size_t num_blocks_;
  Buffer buffer_;
};

void store_number(float value, DType dtype, size_t index, std::byte* to) {
  if (dtype == DType::kF32) {
    reinterpret_cast<float*>(to)[index] = value;
  } else {
    reinterpret_cast<uint16_t*>(to)[index] = f32_to_bf16(value);
  }
}

/// One token of one layer.
struct TokenPlace {
  size_t layer, block, slot;
};

void store_token(CpuKv& kv, const TokenPlace& place, std::span<const float> key,
                 std::span<const float> value) {
  const KvShape& shape = kv.shape();
  const size_t d = shape.head_dim;
  for (size_t head = 0; head < shape.num_kv_heads; ++head) {
    std::byte* keys = kv.mutable_keys(place.layer, place.block, head);
    std::byte* values = kv.mutable_values(place.layer, place.block, head);
    const size_t first_value = place.slot * padded_head_dim(d);
    for (size_t i = 0; i < d; ++i) {
      store_number(key[head * d + i], shape.dtype, i * kKvBlockTokens + place.slot, keys);
      store_number(value[head * d + i], shape.dtype, first_value + i, values);
    }
    for (size_t i = d; i < padded_head_dim(d); ++i) {
      store_number(0.0f, shape.dtype, first_value + i, values);
    }
  }
}

/// Rows of one sequence for one KV head; each row brings the query heads that share it.
struct AttentionItem {
  const SequenceRows* sequence = nullptr;
  size_t kv_head = 0;
  size_t first_row = 0, num_rows = 0;  // within the sequence
};

/// Queries that go through the keys and values together: a span of them, 32 KiB in bf16 for heads
/// of 128, is then read from the first cache most of the time.
constexpr size_t kItemQueries = 32;

class AttentionCall {
 public:
  AttentionCall(const KernelSet& kernels, const CpuKv& kv, const AttentionOptions& options)
      : attend_(kernels.attend[kv.shape().dtype == DType::kF32 ? 0 : 1]),
        kv_(kv),
        options_(options),
        group_(options.num_heads / kv.shape().num_kv_heads),
        width_(padded_head_dim(kv.shape().head_dim)) {}

  /// The longest first, so that the last ones fill the gaps between threads.
  std::vector<AttentionItem> make_items(std::span<const SequenceRows> sequences) const;
  size_t num_queries(const AttentionItem& item) const { return item.num_rows * group_; }
  size_t max_queries() const { return std::max(kItemQueries, group_); }
  size_t width() const { return width_; }

  /// states [num_queries], sums [num_queries][width].
  void compute(const AttentionItem& item, QueryState* states, float* sums, Matrix<const float> q,
               Matrix<float> out) const;

 private:
  void init(const AttentionItem& item, std::span<QueryState> states, float* sums,
            Matrix<const float> q) const;
  void attend(const AttentionItem& item, size_t span_idx, std::span<QueryState> states) const;
  void finish(const AttentionItem& item, std::span<const QueryState> states,
              Matrix<float> out) const;

  void (*attend_)(const AttentionSpan&);
  const CpuKv& kv_;
  const AttentionOptions& options_;
  size_t group_;  // query heads per KV head
  size_t width_;
};

std::vector<AttentionItem> AttentionCall::make_items(
    std::span<const SequenceRows> sequences) const {
  std::vector<AttentionItem> items;
  const size_t rows_per_item = std::max<size_t>(1, kItemQueries / group_);
  for (const SequenceRows& sequence : sequences) {
    for (size_t head = 0; head < kv_.shape().num_kv_heads; ++head) {
      for_pieces(sequence.num_rows, rows_per_item, [&](size_t first, size_t count) {
        items.push_back({&sequence, head, first, count});
      });
    }
  }
  const auto cost = [](const AttentionItem& item) {
    return item.num_rows * (item.sequence->first_position + item.first_row + item.num_rows);
  };
  std::ranges::stable_sort(items, std::ranges::greater(), cost);
  return items;
}

void AttentionCall::compute(const AttentionItem& item, QueryState* states, float* sums,
                            Matrix<const float> q, Matrix<float> out) const {
  const std::span<QueryState> queries(states, num_queries(item));
  init(item, queries, sums, q);
  // Later rows see later positions, so the first query sees the first and the last the last one.
  const size_t end_span = divide_up(queries.back().end, kSpanTokens);
  for (size_t span = queries.front().first / kSpanTokens; span < end_span; ++span) {
    for_pieces(queries.size(), kMaxQueries, [&](size_t first, size_t count) {
      attend(item, span, queries.subspan(first, count));
    });
  }
  finish(item, queries, out);
}

void AttentionCall::init(const AttentionItem& item, std::span<QueryState> states, float* sums,
                         Matrix<const float> q) const {
  const size_t d = kv_.shape().head_dim;
  std::fill_n(sums, states.size() * width_, 0.0f);
  for (size_t i = 0; i < states.size(); ++i) {
    const size_t row = item.first_row + i / group_;
    const size_t head = item.kv_head * group_ + i % group_;
    const size_t end = item.sequence->first_position + row + 1;
    QueryState& state = states[i];
    state.q = q.row(item.sequence->first_row + row).data() + head * d;
    state.sum = sums + i * width_;
    // Lower than any score, yet finite: a span of which a query sees nothing leaves it unchanged.
    state.largest = std::numeric_limits<float>::lowest();
    state.total = 0.0f;
    state.first = options_.window > 0 && end > options_.window ? end - options_.window : 0;
    state.end = end;
  }
}

void AttentionCall::attend(const AttentionItem& item, size_t span_idx,
                           std::span<QueryState> states) const {
  const size_t first_position = span_idx * kSpanTokens;
  const size_t first = std::max(states.front().first, first_position);
  const size_t end = std::min(states.back().end, first_position + kSpanTokens);
  if (first >= end) return;
  AttentionSpan span;
  span.queries = states.data();
  span.num_queries = states.size();
  span.head_dim = kv_.shape().head_dim;
  span.value_width = width_;
  span.scale = options_.scale;
  span.first_position = first_position;
  span.first_block = (first - first_position) / kKvBlockTokens;
  span.end_block = divide_up(end - first_position, kKvBlockTokens);
  for (size_t i = span.first_block; i < span.end_block; ++i) {
    const size_t index = span_idx * kSpanBlocks + i;
    PREGATE_CHECK(index < item.sequence->blocks.size());
    const size_t block = item.sequence->blocks[index];
    span.keys[i] = kv_.keys(options_.layer, block, item.kv_head);
    span.values[i] = kv_.values(options_.layer, block, item.kv_head);
  }
  attend_(span);
}

void AttentionCall::finish(const AttentionItem& item, std::span<const QueryState> states,
                           Matrix<float> out) const {
  const size_t d = kv_.shape().head_dim;
  for (size_t i = 0; i < states.size(); ++i) {
    const size_t row = item.sequence->first_row + item.first_row + i / group_;
    const size_t head = item.kv_head * group_ + i % group_;
    float* to = out.row(row).data() + head * d;
    for (size_t c = 0; c < d; ++c) to[c] = states[i].sum[c] / states[i].total;
  }
}

}  // namespace

size_t CpuBackend::kv_block_bytes(const KvShape& shape) const {
  return shape.num_layers * shape.num_kv_heads * CpuKv::head_bytes(shape);
}

Result<std::unique_ptr<KvStorage>> CpuBackend::allocate_kv(const KvShape& shape,
                                                           size_t num_blocks) {
  PREGATE_TRY(check_kv_shape(shape));
  try {
    return std::make_unique<CpuKv>(shape, num_blocks);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kResourceExhausted, "no memory for {} KV blocks of {} bytes", num_blocks,
                kv_block_bytes(shape));
  }
}

void CpuBackend::store_kv(KvStorage& kv, size_t layer, std::span<const SequenceRows> sequences,
                          Matrix<const float> keys, Matrix<const float> values) {
  auto& cpu_kv = dynamic_cast<CpuKv&>(kv);
  for (const SequenceRows& sequence : sequences) {
    for_rows(threads_, sequence.num_rows, keys.cols, [&](size_t i) {
      const size_t position = sequence.first_position + i;
      PREGATE_CHECK(position / kKvBlockTokens < sequence.blocks.size());
      const size_t block = sequence.blocks[position / kKvBlockTokens];
      const size_t row = sequence.first_row + i;
      store_token(cpu_kv, {layer, block, position % kKvBlockTokens}, keys.row(row),
                  values.row(row));
    });
  }
}

void CpuBackend::attention(const KvStorage& kv, const AttentionOptions& options,
                           std::span<const SequenceRows> sequences, Matrix<const float> q,
                           Matrix<float> out) {
  const KvShape& shape = kv.shape();
  PREGATE_CHECK(options.num_heads % shape.num_kv_heads == 0);
  PREGATE_CHECK(q.cols == options.num_heads * shape.head_dim && out.cols == q.cols);
  const AttentionCall call(kernels_, dynamic_cast<const CpuKv&>(kv), options);
  const std::vector<AttentionItem> items = call.make_items(sequences);
  const size_t max_queries = call.max_queries();
  threads_.parallel_for(items.size(), [&](size_t item, size_t thread) {
    ThreadScratch& scratch = thread_scratch_[thread];
    call.compute(items[item], scratch.states.take<QueryState>(max_queries).data(),
                 scratch.numbers.take<float>(max_queries * call.width()).data(), q, out);
  });
}

}  // namespace pregate::compute::cpu
