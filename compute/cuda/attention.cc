// The KV cache in the device's memory, and attention over it.
#include <algorithm>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "compute/cuda/attention_plan.h"
#include "compute/cuda/backend.h"
#include "compute/cuda/kv.h"
#include "compute/cuda/parcel.h"
#include "compute/kv_shape.h"

namespace pregate::compute::cuda {
namespace {

/// Of a call's rows and partial sums: enough to keep a device busy, and little beside what experts
/// leave room for.
constexpr size_t kMaxSumsBytes = size_t{256} << 20;

/// Rows of the sequences, one after the other.
std::vector<std::span<const float>> rows_of(std::span<const SequenceRows> sequences,
                                            const Matrix<const float>& numbers) {
  std::vector<std::span<const float>> rows;
  for (const SequenceRows& sequence : sequences) {
    for (size_t i = 0; i < sequence.num_rows; ++i) {
      rows.push_back(numbers.row(sequence.first_row + i));
    }
  }
  return rows;
}

/// Where each row's keys and values go.
std::vector<uint32_t> slots_of(std::span<const SequenceRows> sequences, size_t num_blocks) {
  std::vector<uint32_t> slots;
  for (const SequenceRows& sequence : sequences) {
    for (size_t i = 0; i < sequence.num_rows; ++i) {
      const size_t position = sequence.first_position + i;
      PREGATE_CHECK(position / kKvBlockTokens < sequence.blocks.size());
      const uint32_t block = sequence.blocks[position / kKvBlockTokens];
      PREGATE_CHECK(block < num_blocks);
      slots.push_back(uint32_t(block * kKvBlockTokens + position % kKvBlockTokens));
    }
  }
  return slots;
}

/// A device would read whatever lies there. What no row sees may be anything.
void check_blocks(const SequenceRows& sequence, size_t window, size_t num_blocks) {
  if (sequence.num_rows == 0) return;
  const size_t end = sequence.first_position + sequence.num_rows;
  const size_t first_end = sequence.first_position + 1;
  const size_t first = window > 0 && first_end > window ? first_end - window : 0;
  PREGATE_CHECK((end - 1) / kKvBlockTokens < sequence.blocks.size());
  for (size_t i = first / kKvBlockTokens; i <= (end - 1) / kKvBlockTokens; ++i) {
    PREGATE_CHECK(sequence.blocks[i] < num_blocks);
  }
}

template <typename T>
T* numbers_at(std::byte* memory) {
  return reinterpret_cast<T*>(memory);
}

}  // namespace

size_t CudaBackend::kv_block_bytes(const KvShape& shape) const {
  return shape.num_layers * CudaKv::block_bytes(shape);
}

Result<std::unique_ptr<KvStorage>> CudaBackend::allocate_kv(const KvShape& shape,
                                                            size_t num_blocks) {
  PREGATE_TRY(check_kv_shape(shape));
  PREGATE_CHECK(num_blocks <= std::numeric_limits<uint32_t>::max() / kKvBlockTokens);
  PREGATE_ASSIGN(Arena::Block memory,
                 arena_->allocate(num_blocks * kv_block_bytes(shape), "the KV cache"));
  return std::make_unique<CudaKv>(shape, num_blocks, std::move(memory));
}

void CudaBackend::store_kv(KvStorage& kv, size_t layer, std::span<const SequenceRows> sequences,
                           Matrix<const float> keys, Matrix<const float> values) {
  const auto& cuda_kv = dynamic_cast<const CudaKv&>(kv);
  PREGATE_CHECK(layer < kv.shape().num_layers);
  PREGATE_CHECK(keys.cols == cuda_kv.row_numbers() && values.cols == keys.cols);
  const RowCost cost{.row_bytes = 2 * keys.cols * sizeof(float)};
  for (const auto& part : cut_sequences(sequences, cost, row_bytes_)) {
    const Status status = try_store_kv(cuda_kv, layer, part, {keys, values});
    if (!status) end_process(status.error());
  }
}

Status CudaBackend::try_store_kv(const CudaKv& kv, size_t layer,
                                 std::span<const SequenceRows> sequences,
                                 const std::array<Matrix<const float>, 2>& keys_and_values) {
  // Nobody waits for what is stored before it is read; but the memory it comes from is used again.
  if (is_storing_) PREGATE_TRY(synchronize());
  const std::vector<uint32_t> slots = slots_of(sequences, kv.num_blocks());
  Parcel parcel;
  const size_t keys = parcel.add_rows<float>(rows_of(sequences, keys_and_values[0]));
  const size_t values = parcel.add_rows<float>(rows_of(sequences, keys_and_values[1]));
  const size_t slot_table = parcel.add(std::span(slots));
  PREGATE_TRY(parcel.send(*stream_, sent_kv_, stored_));
  is_storing_ = true;
  stream_->store_kv({.kv = kv.layer(layer),
                     .keys = parcel.at<float>(keys),
                     .values = parcel.at<float>(values),
                     .slots = parcel.at<uint32_t>(slot_table),
                     .num_rows = uint32_t(slots.size())});
  return {};
}

void CudaBackend::attention(const KvStorage& kv, const AttentionOptions& options,
                            std::span<const SequenceRows> sequences, Matrix<const float> q,
                            Matrix<float> out) {
  const auto& cuda_kv = dynamic_cast<const CudaKv&>(kv);
  PREGATE_CHECK(options.layer < kv.shape().num_layers);
  PREGATE_CHECK(options.num_heads % kv.shape().num_kv_heads == 0);
  PREGATE_CHECK(q.cols == options.num_heads * kv.shape().head_dim && out.cols == q.cols);
  for (const SequenceRows& sequence : sequences) {
    check_blocks(sequence, options.window, kv.num_blocks());
  }
  const size_t part_bytes = cuda_kv.width() * sizeof(float) + sizeof(SoftmaxPart);
  const RowCost cost{.row_bytes = 2 * q.cols * sizeof(float),
                     .split_bytes = options.num_heads * part_bytes,
                     .window = options.window};
  const size_t part_limit = std::min(row_bytes_, kMaxSumsBytes);
  for (const auto& part : cut_sequences(sequences, cost, part_limit)) {
    const Status status = try_attention(cuda_kv, options, part, q, out);
    if (!status) end_process(status.error());
  }
}

Status CudaBackend::try_attention(const CudaKv& kv, const AttentionOptions& options,
                                  std::span<const SequenceRows> sequences, Matrix<const float> q,
                                  Matrix<float> out) {
  const auto window = uint32_t(std::min<size_t>(options.window, 0xffffffffu));
  const AttentionPlan plan =
      plan_attention(sequences, {uint32_t(options.num_heads / kv.shape().num_kv_heads), window});
  Parcel parcel;
  const size_t queries = parcel.add_rows<float>(rows_of(sequences, q));
  const size_t tiles = parcel.add(std::span(plan.tiles));
  const size_t few = parcel.add(std::span(plan.few));
  const size_t many = parcel.add(std::span(plan.many));
  const size_t blocks = parcel.add(std::span(plan.blocks));
  const size_t first_partial = parcel.add(std::span(plan.first_partial));
  PREGATE_TRY(parcel.send(*stream_, sent_, tables_));
  const size_t num_sums = plan.num_partials() * options.num_heads;
  PREGATE_ASSIGN(std::byte* const sums, products_.take(num_sums * kv.width() * sizeof(float)));
  PREGATE_ASSIGN(std::byte* const parts, numbers_.take(num_sums * sizeof(SoftmaxPart)));
  PREGATE_ASSIGN(std::byte* const result, out_.take(plan.num_rows() * q.cols * sizeof(float)));
  stream_->attention({.kv = kv.layer(options.layer),
                      .num_heads = uint32_t(options.num_heads),
                      .window = window,
                      .scale = options.scale,
                      .num_rows = uint32_t(plan.num_rows()),
                      .q = parcel.at<float>(queries),
                      .tiles = parcel.at<AttentionTile>(tiles),
                      .few = {.units = parcel.at<AttentionUnit>(few),
                              .num_units = uint32_t(plan.few.size()),
                              .max_queries = plan.max_few},
                      .many = {.units = parcel.at<AttentionUnit>(many),
                               .num_units = uint32_t(plan.many.size()),
                               .max_queries = plan.max_many},
                      .blocks = parcel.at<uint32_t>(blocks),
                      .first_partial = parcel.at<uint32_t>(first_partial),
                      .sums = numbers_at<float>(sums),
                      .parts = numbers_at<SoftmaxPart>(parts),
                      .out = numbers_at<float>(result)});
  return receive_rows(result, sequences, out);
}

Status CudaBackend::receive_rows(const std::byte* numbers, std::span<const SequenceRows> sequences,
                                 Matrix<float> out) {
  const size_t row_bytes = out.cols * sizeof(float);
  size_t num_rows = 0;
  for (const SequenceRows& sequence : sequences) num_rows += sequence.num_rows;
  PREGATE_ASSIGN(std::byte * from, received_.take(num_rows * row_bytes));
  stream_->download(from, numbers, num_rows * row_bytes);
  PREGATE_TRY(synchronize());
  for (const SequenceRows& sequence : sequences) {
    for (size_t i = 0; i < sequence.num_rows; ++i, from += row_bytes) {
      std::memcpy(out.row(sequence.first_row + i).data(), from, row_bytes);
    }
  }
  return {};
}

}  // namespace pregate::compute::cuda
