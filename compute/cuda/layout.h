// How weights and rows lie in a device's memory. Both are cut along their inputs into k blocks of
// 128 bytes of rows (64 bf16, 32 f32 or 128 int8, which is one scale group), so that every piece a
// kernel needs is one contiguous run of memory that it can bring into shared memory by a bulk copy,
// in the order in which the matrix units read it without bank conflicts ("128-byte swizzle" in the
// PTX manual): the 16-byte chunk c of row r is kept at place c ^ (r % 8).
//
//   weights   panels of kPanelRows outputs, one after the other. A panel:
//               [k blocks][ kPanelRows x 128 bytes, then (q8) kPanelRows f32 scales ]
//             gate and up share panels: 64 outputs of gate, then the same 64 of up
//             q4: [k blocks][ kPanelRows x 64 bytes of codes, then as many factors, all eight of an
//             output in 4 bytes, then bf16 scales ]; see q4_code_at()
//             f8: [groups of two k blocks][ kPanelRows x 128 bytes of codes, then as many f32
//             scales ]; see f8_code_at()
//   rows      [k blocks][stride rows x 128 bytes], then (q8) [k blocks][stride rows] f32 scales
//
// Missing outputs and inputs are zero. Knows nothing of CUDA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/types.h"
#include "compute/weight_bytes.h"

namespace pregate::compute::cuda {

inline constexpr size_t kBlockBytes = 128;
inline constexpr size_t kPanelRows = 128;
/// Where gate and up share panels: outputs of gate, and then as many of up.
inline constexpr size_t kHalfPanel = kPanelRows / 2;
/// The rows of a swizzle pattern. What a kernel reads begins at a multiple of it.
inline constexpr size_t kAtomRows = 8;
/// Most rows that one block of a kernel multiplies with a panel; what is read past the last row of
/// a buffer of rows.
inline constexpr size_t kMaxTileRows = 192;

constexpr size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }
constexpr size_t round_up(size_t a, size_t b) { return divide_up(a, b) * b; }

/// How rows that go through one matrix are cut into tiles: as few as can be, and all nearly as
/// large. Each brings all weights to a multiprocessor once more, and the cache that they come from
/// is what limits large products.
struct RowTiles {
  uint32_t num_tiles = 0;
  uint32_t max_rows = 0;  ///< Of each but the last.
};
constexpr RowTiles cut_tiles(uint32_t num_rows) {
  if (num_rows == 0) return {};
  const size_t num_tiles = divide_up(num_rows, kMaxTileRows);
  const size_t rows = round_up(divide_up(num_rows, num_tiles), kAtomRows);
  return {uint32_t(divide_up(num_rows, rows)), uint32_t(rows < num_rows ? rows : num_rows)};
}

/// Whether what is multiplied is int8 with scales.
constexpr bool has_scales(WeightFormat format) {
  return arithmetic_of(format) == WeightFormat::kQ8;
}

/// Of a number of rows.
constexpr size_t element_bytes(WeightFormat format) {
  const WeightFormat of_rows = arithmetic_of(format);
  return of_rows == WeightFormat::kF32 ? 4 : of_rows == WeightFormat::kBf16 ? 2 : 1;
}

/// Inputs of a k block.
constexpr size_t block_inputs(WeightFormat format) { return kBlockBytes / element_bytes(format); }

constexpr size_t num_blocks(WeightFormat format, size_t inputs) {
  return divide_up(inputs, block_inputs(format));
}

/// Where byte `byte` of row `row` lies in a k block.
constexpr size_t swizzled(size_t row, size_t byte) {
  return row * kBlockBytes + ((byte / 16) ^ (row % kAtomRows)) * 16 + byte % 16;
}

/// Codes of a row in kQ4 lie by the lanes that multiply them (gemm_mma.cu): for each of four lanes,
/// 16 bytes with what it needs of all 128 inputs, which are 4 of each 16. A byte holds codes of
/// inputs 16 apart, as code - kQ4SmallestCode.
constexpr size_t q4_code_at(size_t row, size_t input) {
  return row * (kBlockBytes / 2) + input % 16 / 4 * 16 + input / 32 * 4 + input % 4;
}
constexpr size_t q4_code_shift(size_t input) { return input / 16 % 2 * 4; }

/// Where the scales of a k block in kQ8 begin, and of two in kF8.
inline constexpr size_t kScalesAt = kPanelRows * kBlockBytes;
/// Where factors and scales of a k block in kQ4 begin.
inline constexpr size_t kQ4FactorsAt = kPanelRows * kBlockBytes / 2;
inline constexpr size_t kQ4ScalesAt = kQ4FactorsAt + kPanelRows * kQ4Parts / 2;

/// Codes in kF8 lie by the lanes that multiply them too: for each of four lanes and each k block 16
/// bytes, which are 4 of each 16 inputs. Odd rows have those of the second k block first: eight
/// lanes read chunks of two rows at a time, which must not come from the same banks.
constexpr size_t f8_code_at(size_t row, size_t input) {
  const size_t chunk = input / 64 * 4 + input % 8 / 2;
  return row * kBlockBytes + (chunk ^ row % 2 * 4) * 16 + input % 64 / 16 * 4 + input % 16 / 8 * 2 +
         input % 2;
}

/// k blocks of a piece of a panel, which is what is copied at once.
constexpr size_t piece_blocks(WeightFormat format) {
  return format == WeightFormat::kF8 ? kQ8Group / block_inputs(format) : 1;
}

/// Of a piece.
constexpr size_t panel_block_bytes(WeightFormat format) {
  if (format == WeightFormat::kQ4 || format == WeightFormat::kF8) {
    return kPanelRows * weight_row_bytes(format, kQ8Group);
  }
  return kPanelRows * (kBlockBytes + (has_scales(format) ? sizeof(float) : 0));
}

constexpr size_t panel_bytes(WeightFormat format, size_t inputs) {
  return divide_up(num_blocks(format, inputs), piece_blocks(format)) * panel_block_bytes(format);
}

/// Of a k block of an encoded row (types.h) that consists of whole ones: values, and their scale.
constexpr size_t encoded_block_bytes(WeightFormat format) {
  return kBlockBytes + (has_scales(format) ? sizeof(float) : 0);
}

/// Most rows of a tile that products fetch where they are encoded. More are laid out before, once
/// for all who read them, which then takes less time: those of bf16 are held by each block of
/// threads whole on Hopper (gemm_wgmma.cu; other kernels have the same limit), and where products
/// of int8 have more columns, fetching takes registers that they need.
inline constexpr size_t kMaxHeldRows = 2, kMaxHeldBlocks = 32;
constexpr size_t max_fetched_rows(WeightFormat format) {
  const WeightFormat of_rows = arithmetic_of(format);
  if (of_rows == WeightFormat::kBf16) return kMaxHeldRows;
  return of_rows == WeightFormat::kQ8 ? kAtomRows : kMaxTileRows;
}

/// Whether they can fetch such rows: chunks of 16 bytes, each at a multiple of that.
constexpr bool can_fetch(WeightFormat format, size_t cols, size_t max_rows) {
  const size_t unit = block_inputs(format) * (has_scales(format) ? 16 / sizeof(float) : 1);
  const bool is_held = arithmetic_of(format) == WeightFormat::kBf16;
  return cols % unit == 0 && max_rows <= max_fetched_rows(format) &&
         (!is_held || num_blocks(format, cols) <= kMaxHeldBlocks);
}

/// Of `stride` rows, and what a kernel may read past them.
constexpr size_t rows_bytes(WeightFormat format, size_t inputs, size_t stride) {
  const size_t scale_bytes = has_scales(format) ? sizeof(float) : 0;
  return num_blocks(format, inputs) * stride * (kBlockBytes + scale_bytes) +
         kMaxTileRows * kBlockBytes;
}

}  // namespace pregate::compute::cuda
