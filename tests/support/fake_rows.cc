#include "tests/support/fake_rows.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>

#include "compute/reference/backend.h"

namespace pregate::compute::cuda {
namespace {

void norm_group(std::span<const float> x, std::span<const float> weight, float epsilon, float* y) {
  float sum_squares = 0.0f;
  for (const float value : x) sum_squares += value * value;
  const float scale = 1.0f / std::sqrt(sum_squares / static_cast<float>(x.size()) + epsilon);
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
}

}  // namespace

void fake_encode_rows(const EncodeRowsArgs& args) {
  for (size_t row = 0; row < args.num_rows; ++row) {
    reference::encode_row({args.x + row * args.stride, args.cols}, args.format,
                          args.out + row * encoded_row_bytes(args.format, args.cols));
  }
}

void fake_add(const AddArgs& args) {
  for (size_t row = 0; row < args.num_rows; ++row) {
    const float gate = args.gate == nullptr ? 1.0f : 1.0f / (1.0f + std::exp(-args.gate[row]));
    const float* const x = args.x + row * args.x_stride;
    float* const y = args.y + row * args.y_stride;
    for (size_t i = 0; i < args.cols; ++i) y[i] += gate * x[i];
  }
}

void fake_norm(const NormArgs& args) {
  const size_t cols = size_t(args.width) * args.num_groups;
  for (size_t row = 0; row < args.num_rows; ++row) {
    const float* x = args.x + row * args.x_stride;
    if (args.addend != nullptr) {
      const float* const addend = args.addend + row * args.addend_stride;
      float* const sum = args.sum + row * args.x_stride;
      std::transform(x, x + cols, addend, sum, std::plus<>());
      x = sum;
    }
    for (size_t first = 0; first < cols; first += args.width) {
      norm_group({x + first, args.width}, {args.weight, args.width}, args.epsilon,
                 args.y + row * args.y_stride + first);
    }
  }
  if (args.out == nullptr) return;
  fake_encode_rows({.format = args.format,
                    .x = args.y,
                    .stride = args.y_stride,
                    .cols = args.width,
                    .num_rows = args.num_rows,
                    .out = args.out});
}

void fake_take_rows(const TakeRowsArgs& args) {
  for (size_t row = 0; row < args.num_rows; ++row) {
    std::copy_n(args.x + size_t(args.rows[row]) * args.x_stride, args.cols,
                args.y + row * args.y_stride);
  }
}

void fake_sum_rows(const SumRowsArgs& args) {
  uint32_t first = 0;
  for (size_t row = 0; row < args.num_rows; ++row) {
    const uint32_t end = args.ends[row];
    for (size_t i = 0; i < args.cols; ++i) {
      float sum = first < end ? args.addends[first][i] : 0.0f;
      for (uint32_t next = first + 1; next < end; ++next) sum += args.addends[next][i];
      args.out[row * args.stride + i] = sum;
    }
    first = end;
  }
}

void fake_take_encoded(const TakeEncodedArgs& args) {
  for (size_t row = 0; row < args.num_rows; ++row) {
    std::copy_n(args.x + size_t{args.rows[row]} * args.row_bytes, args.row_bytes,
                args.out + row * args.row_bytes);
  }
}

void fake_choose_top_k(const TopKArgs& args) {
  for (size_t row = 0; row < args.num_rows; ++row) {
    const size_t first = row * args.k;
    choose_top_k({args.logits + row * args.stride, args.num_experts}, {args.k, args.normalize},
                 {{args.ids + first, args.k}, {args.gates + first, args.k}});
  }
}

/// Column i is of part i modulo their number, which no caller may notice.
void fake_find_largest(const LargestArgs& args) {
  std::fill_n(args.keys, size_t{args.num_rows} * kLargestParts, uint64_t{0});
  for (size_t row = 0; row < args.num_rows; ++row) {
    for (uint32_t col = 0; col < args.cols; ++col) {
      uint64_t& key = args.keys[row * kLargestParts + col % kLargestParts];
      key = std::max(key, largest_key(args.x[row * args.stride + col], col));
    }
  }
}

void fake_draw(const DrawArgs& args) {
  const LargestArgs& logits = args.logits;
  for (size_t row = 0; row < logits.num_rows; ++row) {
    Draw draw = args.draws[row];
    draw.changes = {};  // made before, of lists that a device cannot read
    args.tokens[row] = compute::draw({logits.x + row * logits.stride, logits.cols}, draw);
  }
}

void fake_change_logits(const ChangeLogitsArgs& args) {
  for (size_t row = 0; row < args.num_rows; ++row) {
    const RowChanges& changes = args.rows[row];
    compute::change_logits(
        {args.x + row * args.stride, args.cols},
        {.biases = {args.biases + changes.biases.first, changes.biases.count},
         .said = {args.said + changes.said.first, changes.said.count},
         .penalties = changes.penalties,
         .forbidden = {args.forbidden + changes.forbidden.first, changes.forbidden.count}});
  }
}

}  // namespace pregate::compute::cuda
