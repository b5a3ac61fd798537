// Rows on their way to the device and back, and what is computed with rows alone.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "compute/cuda/attention_plan.h"
#include "compute/cuda/backend.h"
#include "compute/cuda/logit_changes.h"
#include "compute/cuda/parcel.h"

namespace pregate::compute::cuda {
namespace {

/// Of a write, which goes through pinned memory piece by piece.
constexpr size_t kMaxWriteBytes = size_t{1} << 20;
constexpr size_t kUploadUnit = 16;

bool same_shape(Matrix<const float> x, Matrix<const float> y) {
  return x.rows == y.rows && x.cols == y.cols;
}

/// The first row of sequences whose rows follow one another, as they do where rows stay on a
/// device.
size_t first_row(std::span<const SequenceRows> sequences) {
  if (sequences.empty()) return 0;
  size_t next = sequences.front().first_row;
  for (const SequenceRows& sequence : sequences) {
    PREGATE_CHECK(sequence.first_row == next);
    next += sequence.num_rows;
  }
  return sequences.front().first_row;
}

/// Rows of the sequences, one after the other.
std::vector<std::span<const float>> rows_of(std::span<const SequenceRows> sequences,
                                            Matrix<const float> numbers) {
  std::vector<std::span<const float>> rows;
  for (const SequenceRows& sequence : sequences) {
    for (size_t i = 0; i < sequence.num_rows; ++i) {
      rows.push_back(numbers.row(sequence.first_row + i));
    }
  }
  return rows;
}

LargestArgs largest_args(Matrix<const float> numbers, std::byte* keys) {
  return {.x = numbers.data,
          .stride = uint32_t(numbers.stride),
          .cols = uint32_t(numbers.cols),
          .num_rows = uint32_t(numbers.rows),
          .keys = reinterpret_cast<uint64_t*>(keys)};
}

}  // namespace

bool CudaBackend::are_here(std::initializer_list<const void*> addresses) const {
  size_t num_here = 0, num_given = 0;
  for (const void* address : addresses) {
    num_given += address != nullptr;
    num_here += address != nullptr && is_here(address);
  }
  PREGATE_CHECK(num_here == 0 || num_here == num_given);
  return num_here > 0;
}

void CudaBackend::write(void* rows, const void* from, size_t bytes) {
  require(try_write(static_cast<std::byte*>(rows), static_cast<const std::byte*>(from), bytes));
}

Status CudaBackend::try_write(std::byte* rows, const std::byte* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kMaxWriteBytes) {
    const size_t count = std::min(kMaxWriteBytes, bytes - at);
    PREGATE_ASSIGN(const Outbox::Piece piece, outbox_.take(count));
    std::memcpy(piece.pinned, from + at, count);
    const auto place = reinterpret_cast<uintptr_t>(rows + at);
    if (count % kUploadUnit == 0 && place % kUploadUnit == 0) {
      stream_->upload_pinned(rows + at, piece.pinned, count);
    } else {
      stream_->upload(rows + at, piece.pinned, count);
    }
  }
  return {};
}

void CudaBackend::read(void* to, const void* rows, size_t bytes) {
  if (bytes > 0) require(fetch(to, rows, bytes));
}

std::unique_ptr<RowMemory> CudaBackend::allocate_host_rows(size_t bytes) {
  auto pinned = row_space_->allocate_pinned(bytes);
  return pinned ? std::move(*pinned) : host_->allocate_host_rows(bytes);
}

Status CudaBackend::fetch(void* to, const void* from, size_t bytes) {
  if (row_space_->is_pinned(to)) {
    stream_->download(to, from, bytes);
    return synchronize();
  }
  PREGATE_ASSIGN(const std::byte* const received, receive(from, bytes));
  std::memcpy(to, received, bytes);
  return {};
}

Result<const std::byte*> CudaBackend::receive(const void* from, size_t bytes) {
  PREGATE_ASSIGN(std::byte* const received, received_.take(bytes));
  stream_->download(received, from, bytes);
  PREGATE_TRY(synchronize());
  return received;
}

Status CudaBackend::synchronize() {
  ++num_waits_;
  PREGATE_TRY(stream_->synchronize());
  outbox_.arrived();
  return {};
}

Result<CudaBackend::Target> CudaBackend::target_of(Matrix<float> out) {
  if (is_here(out.data)) return Target{out.data, uint32_t(out.stride), true};
  PREGATE_ASSIGN(std::byte* const numbers, out_.take(out.rows * out.cols * sizeof(float)));
  return Target{reinterpret_cast<float*>(numbers), uint32_t(out.cols), false};
}

Result<CudaBackend::Target> CudaBackend::target_of(std::span<const SequenceRows> sequences,
                                                   Matrix<float> out) {
  const size_t num_rows = count_rows(sequences);
  if (!is_here(out.data)) return target_of(Matrix<float>(out.data, num_rows, out.cols, out.stride));
  return target_of(out.slice_rows(first_row(sequences), num_rows));
}

Status CudaBackend::deliver(const Target& target, Matrix<float> out) {
  if (target.is_final) return {};
  if (out.stride == out.cols) {
    return fetch(out.data, target.numbers, out.rows * out.cols * sizeof(float));
  }
  const SequenceRows all{.num_rows = out.rows};
  return deliver(target, {&all, 1}, out);
}

Status CudaBackend::deliver(const Target& target, std::span<const SequenceRows> sequences,
                            Matrix<float> out) {
  if (target.is_final) return {};
  const size_t row_bytes = out.cols * sizeof(float);
  PREGATE_ASSIGN(const std::byte* from, receive(target.numbers, count_rows(sequences) * row_bytes));
  for (const SequenceRows& sequence : sequences) {
    for (size_t i = 0; i < sequence.num_rows; ++i, from += row_bytes) {
      std::memcpy(out.row(sequence.first_row + i).data(), from, row_bytes);
    }
  }
  return {};
}

CudaBackend::Brought CudaBackend::bring_rows(Parcel& parcel,
                                             std::span<const SequenceRows> sequences,
                                             Matrix<const float> numbers) const {
  if (!is_here(numbers.data)) {
    return {parcel.add_rows<float>(rows_of(sequences, numbers)), uint32_t(numbers.cols)};
  }
  return {parcel.bring(numbers.row(first_row(sequences))), uint32_t(numbers.stride)};
}

void CudaBackend::encode(Matrix<const float> x, WeightFormat format, std::byte* out) {
  if (!are_here({x.data, out})) return host_->encode(x, format, out);
  if (x.rows == 0) return;
  stream_->encode_rows({.format = arithmetic_of(format),
                        .x = x.data,
                        .stride = uint32_t(x.stride),
                        .cols = uint32_t(x.cols),
                        .num_rows = uint32_t(x.rows),
                        .out = out});
}

void CudaBackend::rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon,
                           Matrix<float> y) {
  if (!are_here({x.data, weight.data(), y.data})) return host_->rms_norm(x, weight, epsilon, y);
  const size_t width = weight.size();
  PREGATE_CHECK(width > 0 && x.cols % width == 0 && same_shape(x, y));
  if (x.rows == 0) return;
  stream_->norm({.x = x.data,
                 .x_stride = uint32_t(x.stride),
                 .y = y.data,
                 .y_stride = uint32_t(y.stride),
                 .weight = weight.data(),
                 .width = uint32_t(width),
                 .num_groups = uint32_t(x.cols / width),
                 .num_rows = uint32_t(x.rows),
                 .epsilon = epsilon});
}

void CudaBackend::norm_encode(Matrix<float> x, Matrix<const float> addend,
                              std::span<const float> weight, float epsilon, Matrix<float> y,
                              WeightFormat format, std::byte* out) {
  const float* const added = addend.rows > 0 ? addend.data : nullptr;
  if (!are_here({x.data, added, weight.data(), y.data, out})) {
    return Backend::norm_encode(x, addend, weight, epsilon, y, format, out);
  }
  PREGATE_CHECK(weight.size() == x.cols && same_shape(x, y));
  PREGATE_CHECK(added == nullptr || same_shape(x, addend));
  if (x.rows == 0) return;
  stream_->norm({.x = x.data,
                 .x_stride = uint32_t(x.stride),
                 .addend = added,
                 .addend_stride = uint32_t(addend.stride),
                 .sum = x.data,
                 .y = y.data,
                 .y_stride = uint32_t(y.stride),
                 .weight = weight.data(),
                 .width = uint32_t(x.cols),
                 .num_groups = 1,
                 .num_rows = uint32_t(x.rows),
                 .epsilon = epsilon,
                 .format = arithmetic_of(format),
                 .out = out});
}

void CudaBackend::add(Matrix<const float> x, Matrix<float> y) {
  if (!are_here({x.data, y.data})) return host_->add(x, y);
  begin_add(x, nullptr, y);
}

void CudaBackend::add_gated(Matrix<const float> x, Matrix<const float> gates, Matrix<float> y) {
  if (!are_here({x.data, gates.data, y.data})) return host_->add_gated(x, gates, y);
  PREGATE_CHECK(gates.rows == y.rows && gates.cols == 1 && gates.stride == 1);
  begin_add(x, gates.data, y);
}

void CudaBackend::begin_add(Matrix<const float> x, const float* gates, Matrix<float> y) {
  PREGATE_CHECK(same_shape(x, y));
  if (y.rows == 0) return;
  stream_->add({.y = y.data,
                .y_stride = uint32_t(y.stride),
                .x = x.data,
                .x_stride = uint32_t(x.stride),
                .gate = gates,
                .cols = uint32_t(y.cols),
                .num_rows = uint32_t(y.rows)});
}

void CudaBackend::take_rows(Matrix<const float> x, std::span<const uint32_t> rows,
                            Matrix<float> y) {
  if (!are_here({x.data, y.data})) return host_->take_rows(x, rows, y);
  PREGATE_CHECK(y.rows == rows.size() && y.cols == x.cols);
  for (const uint32_t row : rows) PREGATE_CHECK(row < x.rows);
  if (!rows.empty()) require(try_take_rows(x, rows, y));
}

// One address of all says where they are: a step has thousands.
void CudaBackend::sum_rows(const RowSums& sums, Matrix<float> out) {
  const float* const first = sums.addends.empty() ? nullptr : sums.addends.front();
  if (!are_here({first, out.data})) return host_->sum_rows(sums, out);
  PREGATE_CHECK(fits(sums, out));
  if (out.rows > 0) require(try_sum_rows(sums, out));
}

void CudaBackend::take_encoded(const EncodedRows& x, std::span<const uint32_t> rows,
                               std::byte* out) {
  if (!are_here({x.data, out})) return host_->take_encoded(x, rows, out);
  for (const uint32_t row : rows) PREGATE_CHECK(row < x.rows);
  if (!rows.empty()) require(try_take_encoded(x, rows, out));
}

void CudaBackend::choose_top_k(Matrix<const float> logits, const TopKOptions& options,
                               const TopK& out) {
  if (!are_here({logits.data})) return host_->choose_top_k(logits, options, out);
  PREGATE_CHECK(options.k > 0 && options.k <= logits.cols);
  if (are_here({out.ids.data(), out.gates.data()})) {
    PREGATE_CHECK(logits.cols <= kMaxTopKExperts);
    return begin_choose(logits, options, out);
  }
  if (logits.cols > kMaxTopKExperts) {
    HostCopy copy(*this);
    return host_->choose_top_k(copy.read(logits), options, out);
  }
  if (logits.rows > 0) require(try_choose_top_k(logits, options, out));
}

void CudaBackend::begin_choose(Matrix<const float> logits, const TopKOptions& options,
                               const TopK& out) {
  if (logits.rows == 0) return;
  stream_->choose_top_k({.logits = logits.data,
                         .stride = uint32_t(logits.stride),
                         .num_rows = uint32_t(logits.rows),
                         .num_experts = uint32_t(logits.cols),
                         .k = uint32_t(options.k),
                         .normalize = options.normalize,
                         .ids = out.ids.data(),
                         .gates = out.gates.data()});
}

// Ids and gates come back together.
Status CudaBackend::try_choose_top_k(Matrix<const float> logits, const TopKOptions& options,
                                     const TopK& out) {
  const size_t count = logits.rows * options.k;
  PREGATE_ASSIGN(std::byte* const chosen, out_.take(count * (sizeof(uint32_t) + sizeof(float))));
  auto* const ids = reinterpret_cast<uint32_t*>(chosen);
  auto* const gates = reinterpret_cast<float*>(ids + count);
  begin_choose(logits, options, {{ids, count}, {gates, count}});
  PREGATE_ASSIGN(const std::byte* const received,
                 receive(chosen, count * (sizeof(uint32_t) + sizeof(float))));
  std::memcpy(out.ids.data(), received, count * sizeof(uint32_t));
  std::memcpy(out.gates.data(), received + count * sizeof(uint32_t), count * sizeof(float));
  return {};
}

void CudaBackend::draw(Matrix<float> logits, std::span<const Draw> draws,
                       std::span<uint32_t> tokens) {
  if (!are_here({logits.data})) return host_->draw(logits, draws, tokens);
  PREGATE_CHECK(draws.size() == logits.rows && tokens.size() == logits.rows);
  PREGATE_CHECK(logits.cols > 0 && logits.cols <= kMaxDrawable);
  if (logits.rows > 0) require(try_draw(logits, draws, tokens));
}

Status CudaBackend::try_draw(Matrix<float> logits, std::span<const Draw> draws,
                             std::span<uint32_t> tokens) {
  PREGATE_TRY(change_logits(logits, draws, *stream_, outbox_));
  if (std::ranges::all_of(draws, takes_largest)) return try_find_largest(logits, tokens);
  Parcel parcel;
  const size_t sent_draws = parcel.add(draws);
  PREGATE_TRY(parcel.send(*stream_, outbox_));
  const size_t key_bytes = logits.rows * kLargestParts * sizeof(uint64_t);
  const size_t state_bytes = logits.rows * sizeof(DrawState);
  PREGATE_ASSIGN(std::byte* const keys, out_.take(key_bytes + state_bytes + tokens.size_bytes()));
  LargestArgs largest = largest_args(logits, keys);
  largest.states = reinterpret_cast<DrawState*>(keys + key_bytes);
  stream_->find_largest(largest);
  auto* const drawn = reinterpret_cast<uint32_t*>(keys + key_bytes + state_bytes);
  const auto cut = [&](const Draw& draw) { return is_cut(draw, logits.cols); };
  stream_->draw({.logits = largest,
                 .draws = parcel.at<Draw>(sent_draws),
                 .any_cut = std::ranges::any_of(draws, cut),
                 .tokens = drawn});
  PREGATE_ASSIGN(const std::byte* const received, receive(drawn, tokens.size_bytes()));
  std::memcpy(tokens.data(), received, tokens.size_bytes());
  return {};
}

/// Without a second kernel.
Status CudaBackend::try_find_largest(Matrix<const float> numbers, std::span<uint32_t> columns) {
  const size_t bytes = columns.size() * kLargestParts * sizeof(uint64_t);
  PREGATE_ASSIGN(std::byte* const keys, out_.take(bytes));
  stream_->find_largest(largest_args(numbers, keys));
  PREGATE_ASSIGN(const std::byte* const received, receive(keys, bytes));
  const auto* row = reinterpret_cast<const uint64_t*>(received);
  for (uint32_t& column : columns) {
    column = largest_column(row);
    row += kLargestParts;
  }
  return {};
}

Status CudaBackend::try_take_rows(Matrix<const float> x, std::span<const uint32_t> rows,
                                  Matrix<float> y) {
  Parcel parcel;
  const size_t table = parcel.add(rows);
  PREGATE_TRY(parcel.send(*stream_, outbox_));
  stream_->take_rows({.y = y.data,
                      .y_stride = uint32_t(y.stride),
                      .x = x.data,
                      .x_stride = uint32_t(x.stride),
                      .rows = parcel.at<uint32_t>(table),
                      .cols = uint32_t(y.cols),
                      .num_rows = uint32_t(y.rows)});
  return {};
}

Status CudaBackend::try_sum_rows(const RowSums& sums, Matrix<float> out) {
  Parcel parcel;
  const size_t addends = parcel.add(sums.addends), ends = parcel.add(sums.ends);
  PREGATE_TRY(parcel.send(*stream_, outbox_));
  stream_->sum_rows({.out = out.data,
                     .stride = uint32_t(out.stride),
                     .addends = parcel.at<const float*>(addends),
                     .ends = parcel.at<uint32_t>(ends),
                     .cols = uint32_t(out.cols),
                     .num_rows = uint32_t(out.rows)});
  return {};
}

Status CudaBackend::try_take_encoded(const EncodedRows& x, std::span<const uint32_t> rows,
                                     std::byte* out) {
  Parcel parcel;
  const size_t table = parcel.add(rows);
  PREGATE_TRY(parcel.send(*stream_, outbox_));
  stream_->take_encoded({.out = out,
                         .x = x.data,
                         .rows = parcel.at<uint32_t>(table),
                         .row_bytes = uint32_t(encoded_row_bytes(x.format, x.cols)),
                         .num_rows = uint32_t(rows.size())});
  return {};
}

}  // namespace pregate::compute::cuda
