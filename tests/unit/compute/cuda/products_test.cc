// Products without a table of tiles, products in f32, and attention of rows that lie apart, by each
// kind of device. What products are in all formats: tests/conformance/compute.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "compute/cuda/fetched_rows.h"
#include "compute/cuda/kv_layout.h"
#include "compute/cuda/layout.h"
#include "compute/number.h"
#include "compute/reference/backend.h"
#include "tests/unit/compute/cuda/stream_fixture.h"

namespace pregate::compute::cuda {
namespace {

class Products : public StreamTest {
 protected:
  /// Encoded rows on the device, and where they would be laid out.
  GatherArgs encode(WeightFormat format, const std::vector<float>& x, uint32_t cols) {
    const WeightFormat row_format = arithmetic_of(format);
    const size_t row_bytes = encoded_row_bytes(row_format, cols), num_rows = x.size() / cols;
    std::vector<std::byte> encoded(num_rows * row_bytes);
    for (size_t row = 0; row < num_rows; ++row) {
      reference::encode_row({&x[row * cols], cols}, row_format, &encoded[row * row_bytes]);
    }
    return {.format = row_format,
            .encoded = upload(encoded),
            .cols = cols,
            .num_rows = uint32_t(num_rows),
            .out_stride = uint32_t(round_up(num_rows, kAtomRows)),
            .out_blocks = uint32_t(num_blocks(format, cols))};
  }

  /// As gemm() reads them.
  GemmArgs lay_out(WeightFormat format, GatherArgs rows) {
    rows.out = allocate(rows_bytes(format, rows.cols, rows.out_stride));
    stream().gather(rows);
    return {.format = format,
            .rows = rows.out,
            .rows_stride = rows.out_stride,
            .rows_blocks = rows.out_blocks,
            .max_panels = 1,
            .num_rows = rows.num_rows,
            .num_maps = 1,
            .maps = {{.num_panels = 1}}};
  }
  GemmArgs lay_out(WeightFormat format, const std::vector<float>& x, uint32_t cols) {
    return lay_out(format, encode(format, x, cols));
  }

  /// By tiles or the one map.
  std::vector<float> multiply(GemmArgs args, size_t num_rows) {
    GemmTarget& target = args.maps[0].target;
    float* const out = upload(std::vector<float>(num_rows * target.out_stride, 0.25f));
    target.out = reinterpret_cast<std::byte*>(out);
    stream().gemm(args);
    return download(out, num_rows * target.out_stride);
  }

  /// A panel; codes and factors of q4 may be any. Blocks of f8 are of two k blocks.
  std::vector<std::byte> random_panel(WeightFormat format, size_t num_blocks) {
    std::vector<std::byte> panel;
    for (size_t block = 0; block < num_blocks; ++block) {
      for (size_t i = 0; i < kPanelRows * kBlockBytes / 2; ++i) {
        if (format == WeightFormat::kF32 && i % 2 == 0) append(panel, random_number());
        if (format == WeightFormat::kBf16) append(panel, f32_to_bf16(random_number()));
        if (format == WeightFormat::kQ8) append(panel, uint16_t(random_.next_u64()));
        if (format == WeightFormat::kQ4) append(panel, uint8_t(random_.next_u64()));
        if (format == WeightFormat::kF8) append(panel, uint16_t(random_.next_u64() & kNoNanInF8));
      }
      for (size_t i = 0; i < kPanelRows; ++i) {
        if (format == WeightFormat::kQ8 || format == WeightFormat::kF8) {
          append(panel, random_number());
        }
        if (format == WeightFormat::kQ4) append(panel, uint32_t(random_.next_u64()));
      }
      for (size_t i = 0; i < kPanelRows; ++i) {
        if (format == WeightFormat::kQ4) append(panel, f32_to_bf16(random_number()));
      }
    }
    EXPECT_EQ(panel.size(), num_blocks * panel_block_bytes(format));
    return panel;
  }

  static constexpr uint16_t kNoNanInF8 = 0xfefe;

  float random_number() { return float(random_.next_normal()); }

  template <typename T>
  static void append(std::vector<std::byte>& to, T value) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    to.insert(to.end(), bytes.begin(), bytes.end());
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, Products, ::testing::ValuesIn(stream_devices()),
                         stream_test_name);

constexpr WeightFormat kFormats[] = {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kQ8,
                                     WeightFormat::kQ4};

TEST_P(Products, TilesWithoutATableAreThoseOfIt) {
  constexpr uint32_t kCols = 150, kOutputs = 100;
  for (const WeightFormat format : kFormats) {
    const std::byte* const weights = upload(random_panel(format, num_blocks(format, kCols)));
    for (const uint32_t num_rows : {1u, 8u, 191u, 192u, 193u, 400u}) {
      SCOPED_TRACE(testing::Message() << num_rows << " rows, format " << int(format));
      GemmArgs args = lay_out(format, random_numbers(size_t(num_rows) * kCols), kCols);
      args.maps[0].weights = weights;
      args.max_rows = std::min<uint32_t>(num_rows, kMaxTileRows);
      args.num_tiles = uint32_t(divide_up(num_rows, args.max_rows));
      args.maps[0].target = {.out_stride = kOutputs + 1, .out_cols = kOutputs};
      const auto without = multiply(args, num_rows);
      std::vector<GemmTile> tiles;
      for (uint32_t first = 0; first < num_rows; first += args.max_rows) {
        tiles.push_back({.weights = weights,
                         .first_row = first,
                         .num_rows = std::min(args.max_rows, num_rows - first),
                         .num_panels = 1,
                         .num_blocks = args.rows_blocks});
      }
      args.tiles = upload(tiles);
      expect_same_bits(without, multiply(args, num_rows));
      EXPECT_NE(without[size_t(num_rows - 1) * (kOutputs + 1)], 0.25f);
      EXPECT_EQ(without.back(), 0.25f);
    }
  }
}

constexpr WeightFormat kFetchedFormats[] = {WeightFormat::kF32, WeightFormat::kBf16,
                                            WeightFormat::kQ8, WeightFormat::kQ4,
                                            WeightFormat::kF8};
/// What rows of all formats can be fetched of; of bf16 no more.
constexpr uint32_t kFetchedCols = kMaxHeldBlocks * block_inputs(WeightFormat::kBf16);

size_t num_panel_blocks(WeightFormat format) {
  return divide_up(num_blocks(format, kFetchedCols), piece_blocks(format));
}

TEST_P(Products, OfFetchedRowsAreThoseOfRowsLaidOut) {
  for (const WeightFormat format : kFetchedFormats) {
    const std::byte* const weights = upload(random_panel(format, num_panel_blocks(format)));
    for (const uint32_t num_rows : {1u, 2u, 8u, 9u, 41u, 192u, 200u}) {
      SCOPED_TRACE(testing::Message() << num_rows << " rows, format " << int(format));
      const auto most = uint32_t(max_fetched_rows(format));
      if (num_rows > most && most < kAtomRows) continue;  // no tile begins in between
      const auto x = random_numbers(size_t(num_rows) * kFetchedCols);
      const GatherArgs rows = encode(format, x, kFetchedCols);
      GemmArgs args = lay_out(format, rows);
      args.maps[0].weights = weights;
      args.max_rows = std::min(num_rows, most);
      args.num_tiles = uint32_t(divide_up(num_rows, args.max_rows));
      args.maps[0].target = {.out_stride = kPanelRows, .out_cols = kPanelRows};
      const auto laid_out = multiply(args, num_rows);
      args.rows = nullptr;
      ASSERT_TRUE(let_fetch(rows, args));
      expect_same_bits(multiply(args, num_rows), laid_out);
    }
  }
}

/// Of f32 fewer k blocks than the numbers have.
TEST_P(Products, AreEncodedWithoutATableAsByIt) {
  constexpr uint32_t kPanels = 3, kCols = kPanels * uint32_t(kHalfPanel);
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kQ8}) {
    for (const uint32_t num_rows : {1u, 9u, 193u, 400u}) {
      SCOPED_TRACE(testing::Message() << num_rows << " rows, format " << int(format));
      const RowTiles cut = cut_tiles(num_rows);
      EncodeArgs args{.format = format,
                      .numbers = upload(random_numbers(size_t(num_rows) * kCols)),
                      .numbers_stride = kCols,
                      .num_tiles = cut.num_tiles,
                      .max_rows = cut.max_rows,
                      .num_rows = num_rows,
                      .out_blocks = uint32_t(num_blocks(format, kCols - kHalfPanel / 2)),
                      .out_stride = uint32_t(round_up(num_rows, kAtomRows))};
      const auto encode = [&] {
        const size_t count = rows_bytes(format, kCols, args.out_stride) / sizeof(float);
        float* const out = upload(std::vector<float>(count, 0.25f));
        args.out = reinterpret_cast<std::byte*>(out);
        stream().encode(args);
        return download(out, count);
      };
      const auto without = encode();
      std::vector<GemmTile> tiles;
      for (uint32_t first = 0; first < num_rows; first += cut.max_rows) {
        tiles.push_back({.first_row = first,
                         .num_rows = std::min(cut.max_rows, num_rows - first),
                         .num_panels = kPanels});
      }
      args.tiles = upload(tiles);
      expect_same_bits(without, encode());
      EXPECT_NE(without[0], 0.25f);
    }
  }
}

/// More k blocks than the warps of a kernel have in flight, and no multiple of those.
constexpr uint32_t kLongRow = 32 * 70 + 5;
constexpr uint32_t kSomeRows = 13;

TEST_P(Products, OfARowInF32AreItsOwn) {
  const auto x = random_numbers(kSomeRows * kLongRow);
  const auto panel = random_panel(WeightFormat::kF32, num_blocks(WeightFormat::kF32, kLongRow));
  const std::byte* const weights = upload(panel);
  const float* const bias = upload(random_numbers(kPanelRows));
  for (const GemmOutput output : {GemmOutput::kNumbers, GemmOutput::kActivations}) {
    const bool numbers = output == GemmOutput::kNumbers;
    const auto product = [&](const std::vector<float>& rows) {
      const auto num_rows = uint32_t(rows.size() / kLongRow);
      GemmArgs args = lay_out(WeightFormat::kF32, rows, kLongRow);
      args.output = output;
      args.maps[0].weights = weights;
      args.max_rows = num_rows;
      args.num_tiles = 1;
      const auto cols = uint32_t(numbers ? kPanelRows : kHalfPanel);
      args.maps[0].target = {
          .out_stride = cols, .out_cols = cols, .bias = numbers ? bias : nullptr};
      return multiply(args, num_rows);
    };
    const auto together = product(x);
    const size_t width = together.size() / kSomeRows;
    for (uint32_t row = 0; row < kSomeRows; row += 6) {
      const auto alone = product({x.begin() + row * kLongRow, x.begin() + (row + 1) * kLongRow});
      const auto first = together.begin() + std::ptrdiff_t(row * width);
      expect_same_bits(alone, {first, first + std::ptrdiff_t(width)});
    }
  }
}

float weight_at(const std::vector<std::byte>& panel, size_t output, size_t input) {
  float weight;
  const size_t block = input / 32 * panel_block_bytes(WeightFormat::kF32);
  std::memcpy(&weight, &panel[block + swizzled(output, 4 * (input % 32))], sizeof(weight));
  return weight;
}

TEST_P(Products, InF32) {
  constexpr auto kF32 = WeightFormat::kF32;
  for (const uint32_t cols : {1u, 31u, 64u, kLongRow}) {
    const auto x = random_numbers(kSomeRows * cols);
    const auto panel = random_panel(kF32, num_blocks(kF32, cols));
    GemmArgs args = lay_out(kF32, x, cols);
    args.maps[0].weights = upload(panel);
    args.max_rows = kSomeRows;
    args.num_tiles = 1;
    args.maps[0].target = {.out_stride = kPanelRows, .out_cols = kPanelRows};
    const auto actual = multiply(args, kSomeRows);
    for (size_t i = 0; i < actual.size(); ++i) {
      double sum = 0.0, magnitude = 0.0;
      for (size_t k = 0; k < cols; ++k) {
        const double product =
            double(x[i / kPanelRows * cols + k]) * double(weight_at(panel, i % kPanelRows, k));
        sum += product;
        magnitude += std::fabs(product);
      }
      ASSERT_NEAR(actual[i], sum, 1e-6 * magnitude) << "number " << i << ", " << cols << " inputs";
    }
  }
}

// Attention of one sequence whose last rows are in this step.

struct Sequence {
  static constexpr uint32_t kHeads = 4, kKvHeads = 2, kDim = 30, kRows = 4, kFirst = 13;
  static constexpr uint32_t kTokens = kFirst + kRows;
  static constexpr uint32_t kQueryCols = kHeads * kDim, kKeyCols = kKvHeads * kDim;
};

class AttentionStrides : public StreamTest {
 protected:
  using S = Sequence;

  /// Numbers of rows that are so far apart; what is between them is nobody's.
  static std::vector<float> apart(const std::vector<float>& rows, uint32_t cols, uint32_t stride) {
    std::vector<float> spread(rows.size() / cols * stride, std::nanf(""));
    for (size_t i = 0; i < rows.size(); ++i) spread[i / cols * stride + i % cols] = rows[i];
    return spread;
  }

  /// Attention with everything `gap` numbers further apart than it need be: rows of `out`.
  std::vector<float> attend(DType dtype, uint32_t gap) {
    const KvLayer kv{allocate(4 * S::kKvHeads * kv_head_bytes(dtype, S::kDim)), dtype, S::kKvHeads,
                     S::kDim};
    std::vector<uint32_t> slots;
    for (uint32_t p = 0; p < S::kTokens; ++p) {
      slots.push_back(blocks_[p / kKvTokens] * kKvTokens + p % kKvTokens);
    }
    const uint32_t key_stride = S::kKeyCols + gap, value_stride = S::kKeyCols + 2 * gap;
    stream().place_heads(
        {.kv = kv,
         .k = {.x = upload(apart(keys_, S::kKeyCols, key_stride)), .stride = key_stride},
         .v = {.x = upload(apart(values_, S::kKeyCols, value_stride)), .stride = value_stride},
         .limit = std::numeric_limits<float>::infinity(),
         .slots = upload(slots),
         .num_rows = S::kTokens});
    const AttentionTile tile{.first_position = S::kFirst,
                             .num_queries = S::kRows * S::kHeads / S::kKvHeads};
    const uint32_t q_stride = S::kQueryCols + gap, out_stride = S::kQueryCols + 3 * gap;
    const size_t num_sums = S::kRows * S::kHeads * kv_width(dtype, S::kDim);
    float* const out = upload(std::vector<float>(S::kRows * out_stride, 7.0f));
    stream().attention({.kv = kv,
                        .num_heads = S::kHeads,
                        .scale = 0.25f,
                        .num_rows = S::kRows,
                        .q = upload(apart(q_, S::kQueryCols, q_stride)),
                        .q_stride = q_stride,
                        .out_stride = out_stride,
                        .tiles = upload(std::vector{tile}),
                        .few = {upload(std::vector<AttentionUnit>(1)), 1, tile.num_queries},
                        .blocks = upload(blocks_),
                        .first_partial = upload(std::vector<uint32_t>{0, 1, 2, 3, 4}),
                        .sums = upload(std::vector<float>(num_sums)),
                        .parts = upload(std::vector<SoftmaxPart>(S::kRows * S::kHeads)),
                        .out = out});
    const auto spread = download(out, S::kRows * out_stride);
    std::vector<float> rows;
    for (size_t i = 0; i < spread.size(); ++i) {
      if (i % out_stride < S::kQueryCols) {
        rows.push_back(spread[i]);
      } else {
        EXPECT_EQ(spread[i], 7.0f);
      }
    }
    return rows;
  }

  const std::vector<uint32_t> blocks_ = {3, 1};
  const std::vector<float> q_ = random_numbers(S::kRows * S::kQueryCols);
  const std::vector<float> keys_ = random_numbers(S::kTokens * S::kKeyCols);
  const std::vector<float> values_ = random_numbers(S::kTokens * S::kKeyCols);
};

INSTANTIATE_TEST_SUITE_P(Devices, AttentionStrides, ::testing::ValuesIn(stream_devices()),
                         stream_test_name);

TEST_P(AttentionStrides, ChangeNothing) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const auto close = attend(dtype, 0);
    EXPECT_TRUE(std::ranges::all_of(close, [](float x) { return std::isfinite(x); }));
    expect_same_bits(attend(dtype, 1), close);
    expect_same_bits(attend(dtype, 6), close);
  }
}

}  // namespace
}  // namespace pregate::compute::cuda
