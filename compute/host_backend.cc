#include "compute/host_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "compute/cpu/buffer.h"
#include "compute/kv_shape.h"

namespace pregate::compute {
namespace {

class HostRows final : public RowMemory {
 public:
  explicit HostRows(size_t bytes) : buffer_(bytes) {}
  std::byte* data() const override { return buffer_.data(); }

 private:
  mutable cpu::Buffer buffer_;
};

bool same_shape(Matrix<const float> x, Matrix<const float> y) {
  return x.rows == y.rows && x.cols == y.cols;
}

void clip(Matrix<float> x, float limit) {
  for (size_t r = 0; r < x.rows; ++r) {
    for (float& value : x.row(r)) value = std::clamp(value, -limit, limit);
  }
}

}  // namespace

Result<std::unique_ptr<RowMemory>> HostBackend::allocate_rows(size_t bytes) {
  return allocate_host_rows(bytes);
}

std::unique_ptr<RowMemory> HostBackend::allocate_host_rows(size_t bytes) {
  return std::make_unique<HostRows>(bytes);
}

void HostBackend::write(void* rows, const void* from, size_t bytes) {
  if (rows != from && bytes > 0) std::memcpy(rows, from, bytes);
}

void HostBackend::read(void* to, const void* rows, size_t bytes) { write(to, rows, bytes); }

void HostBackend::mlp(const EncodedRows& x, const PackedExpert& expert, Matrix<float> out) {
  std::vector<uint32_t> rows(x.rows);
  std::iota(rows.begin(), rows.end(), 0);
  const std::vector<float> ones(x.rows, 1.0f);
  const ExpertTask task{&expert, rows, rows, ones};
  experts(x, {&task, 1}, out);
}

void HostBackend::add(Matrix<const float> x, Matrix<float> y) {
  PREGATE_CHECK(same_shape(x, y));
  for (size_t r = 0; r < y.rows; ++r) {
    const std::span<const float> from = x.row(r);
    const std::span<float> to = y.row(r);
    for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  }
}

void HostBackend::add_gated(Matrix<const float> x, Matrix<const float> gates, Matrix<float> y) {
  PREGATE_CHECK(same_shape(x, y) && gates.rows == y.rows && gates.cols == 1);
  for (size_t r = 0; r < y.rows; ++r) {
    const float factor = 1.0f / (1.0f + std::exp(-gates.row(r)[0]));
    const std::span<const float> from = x.row(r);
    const std::span<float> to = y.row(r);
    for (size_t i = 0; i < to.size(); ++i) to[i] += factor * from[i];
  }
}

void HostBackend::take_rows(Matrix<const float> x, std::span<const uint32_t> rows,
                            Matrix<float> y) {
  PREGATE_CHECK(y.rows == rows.size() && y.cols == x.cols);
  for (size_t i = 0; i < rows.size(); ++i) {
    PREGATE_CHECK(rows[i] < x.rows);
    std::ranges::copy(x.row(rows[i]), y.row(i).begin());
  }
}

void HostBackend::sum_rows(const RowSums& sums, Matrix<float> out) {
  PREGATE_CHECK(fits(sums, out));
  for (size_t r = 0; r < out.rows; ++r) sum_up(sums.of(r), out.row(r));
}

void HostBackend::take_encoded(const EncodedRows& x, std::span<const uint32_t> rows,
                               std::byte* out) {
  const size_t row_bytes = encoded_row_bytes(x.format, x.cols);
  for (size_t i = 0; i < rows.size(); ++i) {
    PREGATE_CHECK(rows[i] < x.rows);
    std::copy_n(x.data + rows[i] * row_bytes, row_bytes, out + i * row_bytes);
  }
}

void HostBackend::choose_top_k(Matrix<const float> logits, const TopKOptions& options,
                               const TopK& out) {
  for (size_t r = 0; r < logits.rows; ++r) {
    compute::choose_top_k(logits.row(r), options, out.row(r, options.k));
  }
}

void HostBackend::draw(Matrix<float> logits, std::span<const Draw> draws,
                       std::span<uint32_t> tokens) {
  PREGATE_CHECK(draws.size() == logits.rows && tokens.size() == logits.rows);
  for (size_t r = 0; r < logits.rows; ++r) tokens[r] = draw_in_place(logits.row(r), draws[r]);
}

void HostBackend::place_heads(KvStorage& kv, const HeadOptions& options,
                              std::span<const SequenceRows> sequences, Matrix<float> q,
                              Matrix<float> k, Matrix<float> v) {
  PREGATE_CHECK(heads_fit(kv.shape(), options, q, k, v));
  if (!options.q_norm.empty()) rms_norm(q, options.q_norm, options.epsilon, q);
  if (!options.k_norm.empty()) rms_norm(k, options.k_norm, options.epsilon, k);
  if (std::isfinite(options.limit)) {
    for (const Matrix<float>& x : {q, k, v}) clip(x, options.limit);
  }
  if (options.cos.cols > 0) {
    for (const Matrix<float>& x : {q, k}) rotate(x, kv.shape().head_dim, options.cos, options.sin);
  }
  store_kv(kv, options.layer, sequences, k, v);
}

}  // namespace pregate::compute
