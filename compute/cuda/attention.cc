// The KV cache in the device's memory, and attention over it.
#include <algorithm>
#include <limits>

#include "base/check.h"
#include "compute/cuda/backend.h"
#include "compute/cuda/kept_tables.h"
#include "compute/cuda/kv.h"
#include "compute/cuda/parcel.h"
#include "compute/kv_shape.h"

namespace pregate::compute::cuda {
namespace {

/// Of a call's rows and partial sums: enough to keep a device busy, and little beside what experts
/// leave room for.
constexpr size_t kMaxSumsBytes = size_t{256} << 20;

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

void CudaBackend::place_heads(KvStorage& kv, const HeadOptions& options,
                              std::span<const SequenceRows> sequences, Matrix<float> q,
                              Matrix<float> k, Matrix<float> v) {
  PREGATE_CHECK(heads_fit(kv.shape(), options, q, k, v));
  const size_t cols = 2 * q.cols + k.cols + v.cols + 2 * options.cos.cols;
  const RowCost cost{.row_bytes = cols * sizeof(float)};
  for (const auto& part : cut_sequences(sequences, cost, row_bytes_)) {
    require(try_place_heads(dynamic_cast<const CudaKv&>(kv), options, part, q, k, v));
  }
}

Status CudaBackend::try_place_heads(const CudaKv& kv, const HeadOptions& options,
                                    std::span<const SequenceRows> sequences, Matrix<float> q,
                                    Matrix<const float> k, Matrix<const float> v) {
  PREGATE_ASSIGN(const uint32_t* const slots, slots_for(kv).of(sequences, outbox_));
  Parcel parcel(row_space_.get());
  const Brought queries = bring_rows(parcel, sequences, q);
  const Brought keys = bring_rows(parcel, sequences, k), values = bring_rows(parcel, sequences, v);
  const Brought cos = bring_rows(parcel, sequences, options.cos);
  const Brought sin = bring_rows(parcel, sequences, options.sin);
  const size_t q_norm = parcel.bring(options.q_norm), k_norm = parcel.bring(options.k_norm);
  PREGATE_TRY(parcel.send(*stream_, outbox_));
  PREGATE_ASSIGN(const Target target, target_of(sequences, q));
  stream_->place_heads({.kv = kv.layer(options.layer),
                        .q = {.x = parcel.at<float>(queries.piece),
                              .stride = queries.stride,
                              .norm = parcel.at<float>(q_norm),
                              .norm_width = uint32_t(options.q_norm.size())},
                        .k = {.x = parcel.at<float>(keys.piece),
                              .stride = keys.stride,
                              .norm = parcel.at<float>(k_norm),
                              .norm_width = uint32_t(options.k_norm.size())},
                        .v = {.x = parcel.at<float>(values.piece), .stride = values.stride},
                        .num_heads = uint32_t(q.cols / kv.shape().head_dim),
                        .q_out = target.numbers,
                        .q_out_stride = target.stride,
                        .epsilon = options.epsilon,
                        .limit = options.limit,
                        .half = uint32_t(options.cos.cols),
                        .cos = parcel.at<float>(cos.piece),
                        .sin = parcel.at<float>(sin.piece),
                        .slots = slots,
                        .num_rows = uint32_t(count_rows(sequences))});
  return deliver(target, sequences, q);
}

KeptSlots& CudaBackend::slots_for(const CudaKv& kv) {
  for (const auto& slots : slots_) {
    if (slots->num_blocks() == kv.num_blocks()) return *slots;
  }
  return *slots_.emplace_back(std::make_unique<KeptSlots>(*device_, *stream_, kv.num_blocks()));
}

KeptPlan& CudaBackend::plan_for(const CudaKv& kv, const AttentionHeads& heads) {
  const KeptPlan::Key key{heads, kv.num_blocks()};
  for (const auto& plan : plans_) {
    if (plan->key() == key) return *plan;
  }
  return *plans_.emplace_back(std::make_unique<KeptPlan>(*device_, *stream_, key));
}

void CudaBackend::attention(const KvStorage& kv, const AttentionOptions& options,
                            std::span<const SequenceRows> sequences, Matrix<const float> q,
                            Matrix<float> out) {
  const auto& cuda_kv = dynamic_cast<const CudaKv&>(kv);
  PREGATE_CHECK(options.layer < kv.shape().num_layers);
  PREGATE_CHECK(options.num_heads % kv.shape().num_kv_heads == 0);
  PREGATE_CHECK(q.cols == options.num_heads * kv.shape().head_dim && out.cols == q.cols);
  const size_t part_bytes = cuda_kv.width() * sizeof(float) + sizeof(SoftmaxPart);
  const RowCost cost{.row_bytes = 2 * q.cols * sizeof(float),
                     .split_bytes = options.num_heads * part_bytes,
                     .window = options.window};
  // What is recorded has had room for as many sums as its tables may grow to.
  const size_t part_limit =
      is_recording_ ? std::numeric_limits<size_t>::max() : std::min(row_bytes_, kMaxSumsBytes);
  for (const auto& part : cut_sequences(sequences, cost, part_limit)) {
    require(try_attention(cuda_kv, options, part, q, out));
  }
}

Status CudaBackend::try_attention(const CudaKv& kv, const AttentionOptions& options,
                                  std::span<const SequenceRows> sequences, Matrix<const float> q,
                                  Matrix<float> out) {
  const auto window = uint32_t(std::min<size_t>(options.window, 0xffffffffu));
  const AttentionHeads heads{uint32_t(options.num_heads / kv.shape().num_kv_heads), window};
  const uint64_t num_sent = outbox_.num_taken();
  PREGATE_ASSIGN(const AttentionTables tables, plan_for(kv, heads).of(sequences, outbox_));
  Parcel parcel(row_space_.get());
  const Brought queries = bring_rows(parcel, sequences, q);
  PREGATE_TRY(parcel.send(*stream_, outbox_));
  const size_t num_sums = tables.num_partials * options.num_heads;
  PREGATE_ASSIGN(std::byte* const sums, products_.take(num_sums * kv.width() * sizeof(float)));
  PREGATE_ASSIGN(std::byte* const parts, numbers_.take(num_sums * sizeof(SoftmaxPart)));
  PREGATE_ASSIGN(const Target target, target_of(sequences, out));
  stream_->attention({.kv = kv.layer(options.layer),
                      .num_heads = uint32_t(options.num_heads),
                      .window = window,
                      .scale = options.scale,
                      .num_rows = uint32_t(tables.num_rows),
                      .q = parcel.at<float>(queries.piece),
                      .q_stride = queries.stride,
                      .out_stride = target.stride,
                      .tiles = tables.tiles,
                      .few = tables.few,
                      .many = tables.many,
                      .blocks = tables.blocks,
                      .first_partial = tables.first_partial,
                      .sums = numbers_at<float>(sums),
                      .parts = numbers_at<SoftmaxPart>(parts),
                      .out = target.numbers,
                      .follows_tables = outbox_.num_taken() != num_sent});
  return deliver(target, sequences, out);
}

}  // namespace pregate::compute::cuda
