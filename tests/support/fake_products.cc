#include "tests/support/fake_products.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "compute/cuda/layout.h"
#include "compute/number.h"
#include "compute/reference/backend.h"

namespace pregate::compute::cuda {
namespace {

template <typename T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <typename T>
void write(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(value));
}

/// A row's part of a k block, in order.
struct Part {
  std::byte bytes[kBlockBytes];
};

/// One row of weights or rows: where its k blocks and their scales are.
struct Line {
  const std::byte* blocks = nullptr;
  size_t block_stride = 0;
  const std::byte* scales = nullptr;
  size_t scale_stride = 0;
  size_t row = 0;

  Part part(size_t block) const {
    constexpr size_t kChunk = 16;
    Part part;
    for (size_t byte = 0; byte < kBlockBytes; byte += kChunk) {
      std::memcpy(part.bytes + byte, blocks + block * block_stride + swizzled(row, byte), kChunk);
    }
    return part;
  }
  float scale(size_t block) const { return read<float>(scales + block * scale_stride); }
};

Line weights_line(const GemmArgs& args, const GemmTile& tile, size_t panel, size_t row) {
  const size_t stride = panel_block_bytes(args.format);
  const size_t pieces = divide_up(tile.num_blocks, piece_blocks(args.format));
  const std::byte* first = tile.weights + panel * pieces * stride;
  const size_t scale_at = args.format == WeightFormat::kQ4 ? kQ4ScalesAt + row * sizeof(uint16_t)
                                                           : kScalesAt + row * sizeof(float);
  return {first, stride, first + scale_at, stride, row};
}

Line rows_line(const GemmArgs& args, size_t row) {
  const size_t scales = size_t(args.rows_blocks) * args.rows_stride * kBlockBytes;
  return {args.rows, args.rows_stride * kBlockBytes, args.rows + scales + row * sizeof(float),
          args.rows_stride * sizeof(float), row};
}

// What takes a test its time reads nothing but parts, which no sanitizer need watch. It calls no
// function, as those would be watched.
#define PREGATE_UNWATCHED __attribute__((no_sanitize("address", "thread", "undefined")))

PREGATE_UNWATCHED float dot_f32(const Part& a, const Part& b, float sum) {
  for (size_t at = 0; at < kBlockBytes; at += sizeof(float)) {
    float x, y;
    std::memcpy(&x, a.bytes + at, sizeof(x));
    std::memcpy(&y, b.bytes + at, sizeof(y));
    sum += x * y;
  }
  return sum;
}

PREGATE_UNWATCHED float dot_bf16(const Part& a, const Part& b, float sum) {
  for (size_t at = 0; at < kBlockBytes; at += sizeof(uint16_t)) {
    uint16_t halves[2];
    std::memcpy(&halves[0], a.bytes + at, sizeof(uint16_t));
    std::memcpy(&halves[1], b.bytes + at, sizeof(uint16_t));
    const uint32_t bits[2] = {uint32_t{halves[0]} << 16, uint32_t{halves[1]} << 16};
    float numbers[2];
    std::memcpy(numbers, bits, sizeof(numbers));
    sum += numbers[0] * numbers[1];
  }
  return sum;
}

PREGATE_UNWATCHED int32_t dot_int8(const Part& a, const Part& b) {
  int32_t sum = 0;
  for (size_t at = 0; at < kBlockBytes; ++at) {
    sum += static_cast<int8_t>(a.bytes[at]) * static_cast<int8_t>(b.bytes[at]);
  }
  return sum;
}

#undef PREGATE_UNWATCHED

int q4_weight(const Line& weights, size_t block, size_t input) {
  const std::byte* from = weights.blocks + block * weights.block_stride;
  const int codes = read<uint8_t>(from + q4_code_at(weights.row, input)) >> q4_code_shift(input);
  const auto factors = read<uint32_t>(from + kQ4FactorsAt + weights.row * sizeof(uint32_t));
  const auto factor = static_cast<int>(factors >> (4 * (input / kQ4Part)) & 15);
  return ((codes & 15) + kQ4SmallestCode) * factor;
}

float f8_code(const Line& weights, size_t piece, size_t input) {
  const std::byte* from = weights.blocks + piece * weights.block_stride;
  return f8_to_f32(read<uint8_t>(from + f8_code_at(weights.row, input)));
}

float dot_block(const Line& a, const Line& b, WeightFormat format, size_t block, float sum) {
  const Part row = b.part(block);
  switch (format) {
    case WeightFormat::kF32:
      return dot_f32(a.part(block), row, sum);
    case WeightFormat::kBf16:
      return dot_bf16(a.part(block), row, sum);
    case WeightFormat::kF8: {
      const size_t piece = block / piece_blocks(format);
      const size_t first = block % piece_blocks(format) * block_inputs(format);
      const float scale = a.scale(piece);
      for (size_t i = 0; i < block_inputs(format); ++i) {
        sum += f8_code(a, piece, first + i) * scale *
               bf16_to_f32(read<uint16_t>(row.bytes + i * sizeof(uint16_t)));
      }
      return sum;
    }
    case WeightFormat::kQ4: {
      Part weights;  // 4 bits times 4 bits
      for (size_t i = 0; i < kBlockBytes; ++i) weights.bytes[i] = std::byte(q4_weight(a, block, i));
      const float scale = bf16_to_f32(read<uint16_t>(a.scales + block * a.scale_stride));
      return sum + static_cast<float>(dot_int8(weights, row)) * (scale * b.scale(block));
    }
    case WeightFormat::kQ8: {
      const int32_t products = dot_int8(a.part(block), row);
      return sum + static_cast<float>(products) * (a.scale(block) * b.scale(block));
    }
  }
  return sum;
}

float dot(const Line& weights, const Line& row, const GemmArgs& args, size_t num_blocks) {
  float sum = 0.0f;
  for (size_t block = 0; block < num_blocks; ++block) {
    sum = dot_block(weights, row, args.format, block, sum);
  }
  return sum;
}

void store_number(const GemmTarget& target, size_t row, size_t col, float value) {
  if (col >= target.out_cols) return;
  if (target.bias != nullptr) value += target.bias[col];
  write(target.out + (row * target.out_stride + col) * sizeof(float), value);
}

void store_activation(const GemmTarget& target, WeightFormat format, size_t row, size_t col,
                      float gate, float up) {
  const float value = gate / (1.0f + std::exp(-gate)) * up;
  if (arithmetic_of(format) != WeightFormat::kBf16) {
    write(target.out + (row * target.out_stride + col) * sizeof(float), value);
    return;
  }
  const size_t first = col / kHalfPanel * target.out_stride * kBlockBytes;
  write(target.out + first + swizzled(row, 2 * (col % kHalfPanel)), f32_to_bf16(value));
}

void multiply_panel(const GemmArgs& args, const GemmTile& tile, const GemmTarget& target,
                    size_t panel, size_t row) {
  const Line x = rows_line(args, row);
  const auto output = [&](size_t i) {
    return dot(weights_line(args, tile, panel, i), x, args, tile.num_blocks);
  };
  if (args.output == GemmOutput::kNumbers) {
    for (size_t i = 0; i < kPanelRows; ++i) {
      store_number(target, row, panel * kPanelRows + i, output(i));
    }
    return;
  }
  for (size_t i = 0; i < kHalfPanel; ++i) {
    store_activation(target, args.format, row, panel * kHalfPanel + i, output(i),
                     output(kHalfPanel + i));
  }
}

void place(const GatherArgs& args, const std::byte* encoded, size_t row) {
  const bool scaled = args.format == WeightFormat::kQ8;
  const std::byte* values = encoded + (scaled ? args.out_blocks * sizeof(float) : 0);
  const size_t bytes =
      scaled ? args.out_blocks * kBlockBytes : args.cols * element_bytes(args.format);
  const auto byte_at = [&](size_t at) { return at < bytes ? values[at] : std::byte{0}; };
  std::byte* scales = args.out + size_t(args.out_blocks) * args.out_stride * kBlockBytes;
  for (size_t block = 0; block < args.out_blocks; ++block) {
    std::byte* to = args.out + block * args.out_stride * kBlockBytes;
    for (size_t byte = 0; byte < kBlockBytes; ++byte) {
      to[swizzled(row, byte)] = byte_at(block * kBlockBytes + byte);
    }
    if (!scaled) continue;
    std::memcpy(scales + (block * args.out_stride + row) * sizeof(float),
                encoded + block * sizeof(float), sizeof(float));
  }
}

GemmTile tile_of(const GemmArgs& args, const GemmMap& map, uint32_t index) {
  const uint32_t first_row = index * args.max_rows;
  PREGATE_CHECK(first_row < args.num_rows);
  return {.weights = map.weights,
          .first_row = first_row,
          .num_rows = std::min(args.max_rows, args.num_rows - first_row),
          .num_panels = map.num_panels,
          .num_blocks = args.rows_blocks};
}

GemmTile tile_of(const EncodeArgs& args, uint32_t index) {
  if (args.tiles != nullptr) return args.tiles[index];
  const uint32_t first_row = index * args.max_rows;
  PREGATE_CHECK(first_row < args.num_rows && args.numbers_stride % kHalfPanel == 0);
  return {.first_row = first_row,
          .num_rows = std::min(args.max_rows, args.num_rows - first_row),
          .num_panels = uint32_t(args.numbers_stride / kHalfPanel)};
}

void multiply_tile(const GemmArgs& args, const GemmTile& tile, const GemmTarget& target) {
  PREGATE_CHECK(tile.first_row % kAtomRows == 0 && tile.num_rows <= args.max_rows);
  PREGATE_CHECK(tile.num_panels <= args.max_panels && args.max_rows <= kMaxTileRows);
  for (size_t panel = 0; panel < tile.num_panels; ++panel) {
    for (size_t r = 0; r < tile.num_rows; ++r) {
      multiply_panel(args, tile, target, panel, tile.first_row + r);
    }
  }
}

/// The rows that a product fetches, as they would have been laid out for it.
std::vector<std::byte> lay_out(const GemmArgs& args) {
  const WeightFormat format = arithmetic_of(args.format);
  const size_t cols = args.rows_blocks * block_inputs(format);
  PREGATE_CHECK(args.tiles == nullptr && can_fetch(format, cols, args.max_rows));
  std::vector<std::byte> rows(rows_bytes(format, cols, args.rows_stride));
  fake_gather({.format = format,
               .encoded = args.encoded,
               .cols = uint32_t(cols),
               .num_rows = args.num_rows,
               .out = rows.data(),
               .out_stride = args.rows_stride,
               .out_blocks = args.rows_blocks});
  return rows;
}

}  // namespace

void fake_gather(const GatherArgs& args) {
  for (size_t row = 0; row < args.num_rows; ++row) {
    const size_t source = args.source == nullptr ? row : args.source[row];
    if (source == kNoRow) continue;
    place(args, args.encoded + source * encoded_row_bytes(args.format, args.cols), row);
  }
}

void fake_gemm(const GemmArgs& given) {
  std::vector<std::byte> rows;
  GemmArgs args = given;
  if (args.encoded != nullptr) {
    rows = lay_out(args);
    args.rows = rows.data();
  }
  for (uint32_t i = 0; i < args.num_tiles; ++i) {
    if (args.tiles != nullptr) {
      multiply_tile(args, args.tiles[i], args.maps[0].target);
      continue;
    }
    PREGATE_CHECK(args.num_maps <= kMaxGemmMaps);
    for (const GemmMap& map : std::span(args.maps, args.num_maps)) {
      multiply_tile(args, tile_of(args, map, i), map.target);
    }
  }
}

void fake_encode(const EncodeArgs& args) {
  const size_t inputs = args.out_blocks * block_inputs(args.format);
  std::vector<float> numbers(inputs);
  std::vector<std::byte> encoded(encoded_row_bytes(args.format, inputs));
  for (uint32_t i = 0; i < args.num_tiles; ++i) {
    const GemmTile tile = tile_of(args, i);
    const size_t cols = std::min<size_t>(inputs, tile.num_panels * kHalfPanel);
    for (size_t row = tile.first_row; row < tile.first_row + tile.num_rows; ++row) {
      const std::span from(args.numbers + row * args.numbers_stride, cols);
      std::ranges::fill(numbers, 0.0f);
      std::ranges::copy(from, numbers.begin());
      reference::encode_row(numbers, args.format, encoded.data());
      place({.format = args.format,
             .cols = uint32_t(inputs),
             .out = args.out,
             .out_stride = args.out_stride,
             .out_blocks = args.out_blocks},
            encoded.data(), row);
    }
  }
}

void fake_combine(const CombineArgs& args) {
  for (size_t row = 0; row < args.num_rows; ++row) {
    float* out = args.out + row * args.cols;
    std::fill_n(out, args.cols, 0.0f);
    for (size_t i = args.first[row]; i < args.first[row + 1]; ++i) {
      const float* product = args.products + size_t(args.rows[i]) * args.products_stride;
      for (size_t c = 0; c < args.cols; ++c) out[c] += args.gates[i] * product[c];
    }
  }
}

}  // namespace pregate::compute::cuda
