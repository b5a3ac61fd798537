#include "compute/cpu/backend.h"

#include <cmath>
#include <new>

#include "base/check.h"
#include "compute/cpu/loops.h"
#include "compute/largest.h"
#include "compute/source.h"

namespace pregate::compute::cpu {
namespace {

tl::unexpected<Error> no_memory(size_t rows, size_t cols) {
  return fail(ErrorCode::kResourceExhausted, "no memory for weights [{}, {}]", rows, cols);
}

/// In a fixed order that compilers turn into vectors.
float sum_squares(std::span<const float> x) {
  constexpr size_t kParts = 16;
  float parts[kParts] = {};
  size_t i = 0;
  for (; i + kParts <= x.size(); i += kParts) {
    for (size_t p = 0; p < kParts; ++p) parts[p] += x[i + p] * x[i + p];
  }
  for (; i < x.size(); ++i) parts[i % kParts] += x[i] * x[i];
  float sum = 0.0f;
  for (const float part : parts) sum += part;
  return sum;
}

}  // namespace

CpuBackend::CpuBackend(const KernelSet& kernels, ThreadPool& threads)
    : kernels_(kernels), threads_(threads), thread_scratch_(threads.num_threads()) {}

Result<std::unique_ptr<PackedMatrix>> CpuBackend::pack(const SourceMatrix& weights,
                                                       WeightFormat format) {
  PREGATE_TRY(check_source(weights));
  auto matrix = std::make_unique<CpuMatrix>();
  matrix->kernels = &kernels_;
  matrix->weight_format = format;
  matrix->rows = weights.rows;
  matrix->cols = weights.cols;
  try {
    matrix->panels = Panels(kernels_, format, num_panels(kernels_, weights.rows), weights.cols);
  } catch (const std::bad_alloc&) {
    return no_memory(weights.rows, weights.cols);
  }
  PREGATE_TRY(pack_panels(kernels_, format, {weights, matrix->panels}, threads_));
  return matrix;
}

Result<std::unique_ptr<PackedExpert>> CpuBackend::pack_expert(const ExpertSource& weights,
                                                              WeightFormat format) {
  PREGATE_TRY(check_source(weights));
  auto expert = std::make_unique<CpuExpert>();
  expert->kernels = &kernels_;
  expert->weight_format = format;
  expert->hidden = weights.gate.cols;
  expert->intermediate = weights.gate.rows;
  const size_t gate_panels = num_panels(kernels_, expert->intermediate);
  try {
    expert->gate_up = Panels(kernels_, format, 2 * gate_panels, expert->hidden);
    expert->down =
        Panels(kernels_, format, num_panels(kernels_, expert->hidden), expert->intermediate);
  } catch (const std::bad_alloc&) {
    return no_memory(3 * expert->intermediate, expert->hidden);
  }
  const auto pack_named = [&](const PanelTarget& target, std::string_view what) {
    return pack_panels(kernels_, format, target, threads_).map_error([what](Error error) {
      return in_context(std::move(error), what);
    });
  };
  PREGATE_TRY(pack_named({weights.gate, expert->gate_up, 0, 2}, "gate"));
  PREGATE_TRY(pack_named({weights.up, expert->gate_up, 1, 2}, "up"));
  PREGATE_TRY(pack_named({weights.down, expert->down}, "down"));
  return expert;
}

void CpuBackend::encode(Matrix<const float> x, WeightFormat format, std::byte* out) {
  const size_t row_bytes = encoded_row_bytes(format, x.cols);
  for_rows(threads_, x.rows, x.cols,
           [&](size_t row) { encode_row(kernels_, x.row(row), format, out + row * row_bytes); });
}

std::span<const std::byte* const> CpuBackend::prepare(const EncodedRows& x, WeightFormat weights) {
  const MultiplyKernel& multiply = kernels_.multiply_of(weights);
  const size_t encoded_bytes = encoded_row_bytes(x.format, x.cols);
  const auto pointers = row_pointers_.take<const std::byte*>(x.rows);
  if (multiply.prepare_group == nullptr) {
    for (size_t r = 0; r < x.rows; ++r) pointers[r] = x.data + r * encoded_bytes;
    return pointers;
  }
  const size_t prepared_bytes = multiply.prepared_row_bytes(x.cols);
  std::byte* prepared = prepared_.take<std::byte>(x.rows * prepared_bytes).data();
  for_rows(threads_, x.rows, x.cols, [&](size_t r) {
    pointers[r] = prepared + r * prepared_bytes;
    for (size_t group = 0; group * kQ8Group < x.cols; ++group) {
      multiply.prepare_group(x.data + r * encoded_bytes, x.cols, group,
                             prepared + r * prepared_bytes);
    }
  });
  return pointers;
}

void CpuBackend::rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon,
                          Matrix<float> y) {
  const size_t width = weight.size();
  PREGATE_CHECK(width > 0 && x.cols % width == 0 && y.rows == x.rows && y.cols == x.cols);
  for_rows(threads_, x.rows, x.cols, [&](size_t r) {
    for (size_t first = 0; first < x.cols; first += width) {
      const std::span<const float> from = x.row(r).subspan(first, width);
      const std::span<float> to = y.row(r).subspan(first, width);
      const float mean_square = sum_squares(from) / static_cast<float>(width);
      const float scale = 1.0f / std::sqrt(mean_square + epsilon);
      for (size_t i = 0; i < width; ++i) to[i] = from[i] * scale * weight[i];
    }
  });
}

// What a row costs is taken to be what it costs on average.
void CpuBackend::sum_rows(const RowSums& sums, Matrix<float> out) {
  PREGATE_CHECK(fits(sums, out));
  const size_t addends_of_row = divide_up(sums.addends.size(), std::max<size_t>(1, out.rows));
  for_rows(threads_, out.rows, std::max<size_t>(1, addends_of_row) * out.cols,
           [&](size_t r) { sum_up(sums.of(r), out.row(r)); });
}

void CpuBackend::take_encoded(const EncodedRows& x, std::span<const uint32_t> rows,
                              std::byte* out) {
  for (const uint32_t row : rows) PREGATE_CHECK(row < x.rows);
  const size_t row_bytes = encoded_row_bytes(x.format, x.cols);
  for_rows(threads_, rows.size(), row_bytes / sizeof(float), [&](size_t i) {
    std::copy_n(x.data + rows[i] * row_bytes, row_bytes, out + i * row_bytes);
  });
}

void CpuBackend::choose_top_k(Matrix<const float> logits, const TopKOptions& options,
                              const TopK& out) {
  constexpr size_t kCost = 16;  // of an exponential, beside what others do with a number
  for_rows(threads_, logits.rows, kCost * logits.cols,
           [&](size_t r) { compute::choose_top_k(logits.row(r), options, out.row(r, options.k)); });
}

void CpuBackend::draw(Matrix<float> logits, std::span<const Draw> draws,
                      std::span<uint32_t> tokens) {
  PREGATE_CHECK(draws.size() == logits.rows && tokens.size() == logits.rows);
  for_rows(threads_, logits.rows, logits.cols,
           [&](size_t r) { tokens[r] = draw_in_place(logits.row(r), draws[r]); });
}

void CpuBackend::rotate(Matrix<float> x, size_t head_dim, Matrix<const float> cos,
                        Matrix<const float> sin) {
  const size_t half = cos.cols;
  for_rows(threads_, x.rows, x.cols, [&](size_t r) {
    const float* row_cos = cos.row(r).data();
    const float* row_sin = sin.row(r).data();
    for (size_t first = 0; first < x.cols; first += head_dim) {
      float* low = x.row(r).data() + first;
      float* high = low + half;
      for (size_t j = 0; j < half; ++j) {
        const float a = low[j];
        const float b = high[j];
        low[j] = a * row_cos[j] - b * row_sin[j];
        high[j] = b * row_cos[j] + a * row_sin[j];
      }
    }
  });
}

}  // namespace pregate::compute::cpu
