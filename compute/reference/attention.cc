#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "base/check.h"
#include "compute/kv_shape.h"
#include "compute/number.h"
#include "compute/reference/backend.h"

namespace pregate::compute::reference {
namespace {

/// Where one head of one token of one layer is kept.
struct KvSlot {
  size_t layer, block, token, head;
};

/// All numbers as f32, rounded to the shape's type when stored: [layer][block][token][head][d].
class DenseKv final : public KvStorage {
 public:
  DenseKv(const KvShape& shape, size_t num_blocks) : shape_(shape), num_blocks_(num_blocks) {
    const size_t size =
        shape.num_layers * num_blocks * kKvBlockTokens * shape.num_kv_heads * shape.head_dim;
    keys_.resize(size);
    values_.resize(size);
  }
  const KvShape& shape() const override { return shape_; }
  size_t num_blocks() const override { return num_blocks_; }

  std::span<float> key(const KvSlot& slot) { return {keys_.data() + offset(slot), head_dim()}; }
  std::span<float> value(const KvSlot& slot) { return {values_.data() + offset(slot), head_dim()}; }
  std::span<const float> key(const KvSlot& slot) const {
    return {keys_.data() + offset(slot), head_dim()};
  }
  std::span<const float> value(const KvSlot& slot) const {
    return {values_.data() + offset(slot), head_dim()};
  }

 private:
  size_t head_dim() const { return shape_.head_dim; }
  size_t offset(const KvSlot& slot) const {
    PREGATE_CHECK(slot.layer < shape_.num_layers && slot.block < num_blocks_);
    const size_t token = (slot.layer * num_blocks_ + slot.block) * kKvBlockTokens + slot.token;
    return (token * shape_.num_kv_heads + slot.head) * shape_.head_dim;
  }

  KvShape shape_;
  size_t num_blocks_;
  std::vector<float> keys_, values_;
};

KvSlot slot_of(const SequenceRows& sequence, size_t layer, size_t position, size_t head) {
  PREGATE_CHECK(position / kKvBlockTokens < sequence.blocks.size());
  return {layer, sequence.blocks[position / kKvBlockTokens], position % kKvBlockTokens, head};
}

void store(std::span<const float> from, DType dtype, std::span<float> to) {
  const auto round = [dtype](float x) {
    return dtype == DType::kBf16 ? bf16_to_f32(f32_to_bf16(x)) : x;
  };
  std::transform(from.begin(), from.end(), to.begin(), round);
}

/// softmax(q k^T * scale) v for one head of the row at `position`.
void attend(const DenseKv& kv, const AttentionOptions& options, const SequenceRows& sequence,
            size_t position, size_t kv_head, std::span<const float> q, std::span<float> out) {
  const size_t end = position + 1;
  const size_t first = options.window > 0 && end > options.window ? end - options.window : 0;
  std::vector<float> weights;
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t p = first; p < end; ++p) {
    const auto key = kv.key(slot_of(sequence, options.layer, p, kv_head));
    float score = 0.0f;
    for (size_t d = 0; d < q.size(); ++d) score += q[d] * key[d];
    weights.push_back(score * options.scale);
    largest = std::max(largest, weights.back());
  }
  float total = 0.0f;
  for (float& weight : weights) {
    weight = std::exp(weight - largest);
    total += weight;
  }
  std::ranges::fill(out, 0.0f);
  for (size_t p = first; p < end; ++p) {
    const auto value = kv.value(slot_of(sequence, options.layer, p, kv_head));
    for (size_t d = 0; d < out.size(); ++d) out[d] += weights[p - first] / total * value[d];
  }
}

}  // namespace

size_t ReferenceBackend::kv_block_bytes(const KvShape& shape) const {
  return 2 * shape.num_layers * kKvBlockTokens * shape.num_kv_heads * shape.head_dim *
         sizeof(float);
}

Result<std::unique_ptr<KvStorage>> ReferenceBackend::allocate_kv(const KvShape& shape,
                                                                 size_t num_blocks) {
  PREGATE_TRY(check_kv_shape(shape));
  try {
    return std::make_unique<DenseKv>(shape, num_blocks);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kResourceExhausted, "no memory for {} KV blocks of {} bytes", num_blocks,
                kv_block_bytes(shape));
  }
}

void ReferenceBackend::store_kv(KvStorage& kv, size_t layer,
                                std::span<const SequenceRows> sequences, Matrix<const float> keys,
                                Matrix<const float> values) {
  auto& dense = dynamic_cast<DenseKv&>(kv);
  const KvShape& shape = kv.shape();
  for (const SequenceRows& sequence : sequences) {
    for (size_t i = 0; i < sequence.num_rows; ++i) {
      const size_t row = sequence.first_row + i;
      for (size_t head = 0; head < shape.num_kv_heads; ++head) {
        const KvSlot slot = slot_of(sequence, layer, sequence.first_position + i, head);
        const size_t first = head * shape.head_dim;
        store(keys.row(row).subspan(first, shape.head_dim), shape.dtype, dense.key(slot));
        store(values.row(row).subspan(first, shape.head_dim), shape.dtype, dense.value(slot));
      }
    }
  }
}

void ReferenceBackend::attention(const KvStorage& kv, const AttentionOptions& options,
                                 std::span<const SequenceRows> sequences, Matrix<const float> q,
                                 Matrix<float> out) {
  const auto& dense = dynamic_cast<const DenseKv&>(kv);
  const KvShape& shape = kv.shape();
  PREGATE_CHECK(options.num_heads % shape.num_kv_heads == 0);
  PREGATE_CHECK(q.cols == options.num_heads * shape.head_dim && out.cols == q.cols);
  const size_t heads_per_kv_head = options.num_heads / shape.num_kv_heads;
  for (const SequenceRows& sequence : sequences) {
    for (size_t i = 0; i < sequence.num_rows; ++i) {
      const size_t row = sequence.first_row + i;
      for (size_t head = 0; head < options.num_heads; ++head) {
        const size_t first = head * shape.head_dim;
        attend(dense, options, sequence, sequence.first_position + i, head / heads_per_kv_head,
               q.row(row).subspan(first, shape.head_dim),
               out.row(row).subspan(first, shape.head_dim));
      }
    }
  }
}

}  // namespace pregate::compute::reference
