#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "compute/reference/backend.h"

namespace pregate::compute::reference {
namespace {

const std::byte* encoded_row(const EncodedRows& x, size_t row) {
  PREGATE_CHECK(row < x.rows);
  return x.data + row * encoded_row_bytes(x.format, x.cols);
}

void multiply(const DenseMatrix& weights, const std::byte* x, std::span<float> y) {
  for (size_t o = 0; o < y.size(); ++o) {
    y[o] = dot(x, weights.row(o), weights.format(), weights.in_features());
  }
}

float silu(float x) { return x / (1.0f + std::exp(-x)); }

/// down(silu(gate(x)) * up(x)); the product is encoded like any other row.
std::vector<float> apply(const Expert& expert, const std::byte* x) {
  const size_t f = expert.intermediate_size();
  std::vector<float> gate(f), up(f), y(expert.hidden_size());
  multiply(*expert.gate, x, gate);
  multiply(*expert.up, x, up);
  for (size_t i = 0; i < f; ++i) gate[i] = silu(gate[i]) * up[i];
  std::vector<std::byte> encoded(encoded_row_bytes(expert.format(), f));
  encode_row(gate, expert.format(), encoded.data());
  multiply(*expert.down, encoded.data(), y);
  return y;
}

}  // namespace

void ReferenceBackend::linear(const EncodedRows& x, const PackedMatrix& weights,
                              std::span<const float> bias, Matrix<float> y) {
  const auto* matrix = dynamic_cast<const DenseMatrix*>(&weights);
  PREGATE_CHECK(matrix != nullptr && arithmetic_of(x.format) == arithmetic_of(weights.format()));
  PREGATE_CHECK(x.cols == weights.in_features() && y.cols == weights.out_features());
  PREGATE_CHECK(y.rows == x.rows && (bias.empty() || bias.size() == y.cols));
  for (size_t r = 0; r < x.rows; ++r) {
    multiply(*matrix, encoded_row(x, r), y.row(r));
    for (size_t o = 0; o < bias.size(); ++o) y.row(r)[o] += bias[o];
  }
}

void ReferenceBackend::experts(const EncodedRows& x, std::span<const ExpertTask> tasks,
                               Matrix<float> out) {
  for (size_t r = 0; r < out.rows; ++r) std::ranges::fill(out.row(r), 0.0f);
  for (const ExpertTask& task : tasks) {
    const auto* expert = dynamic_cast<const Expert*>(task.expert);
    PREGATE_CHECK(expert != nullptr && arithmetic_of(x.format) == arithmetic_of(expert->format()));
    PREGATE_CHECK(x.cols == expert->hidden_size() && out.cols == expert->hidden_size());
    PREGATE_CHECK(task.rows.size() == task.out_rows.size());
    PREGATE_CHECK(task.rows.size() == task.gates.size());
    for (size_t i = 0; i < task.rows.size(); ++i) {
      PREGATE_CHECK(task.out_rows[i] < out.rows);
      const std::vector<float> y = apply(*expert, encoded_row(x, task.rows[i]));
      const std::span<float> sum = out.row(task.out_rows[i]);
      for (size_t c = 0; c < y.size(); ++c) sum[c] += task.gates[i] * y[c];
    }
  }
}

}  // namespace pregate::compute::reference
