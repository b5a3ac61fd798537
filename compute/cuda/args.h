// The plain structs between the back end and the kernels. Kernels are compiled by a compiler that
// does not read all of our headers, so this one has none but types.h. Formats of rows are those
// that have an arithmetic of their own (arithmetic_of()).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "compute/types.h"

namespace pregate::compute::cuda {

struct DeviceInfo {
  std::string name;  ///< As the driver says it.
  int major = 0;     ///< Compute capability.
  int minor = 0;
  size_t memory_bytes = 0;
  size_t free_bytes = 0;  ///< When it was asked.
  size_t num_multiprocessors = 0;
};

/// What a device can do at best, measured.
struct DeviceLimits {
  double read_bytes_per_s = 0.0;  ///< From its memory.
  double bf16_flops = 0.0;        ///< Of its matrix units.
};

/// Rows that go through the same weights: at most kMaxTileRows of them.
struct GemmTile {
  const std::byte* weights = nullptr;  ///< Device address of the first panel.
  uint32_t first_row = 0;              ///< A multiple of kAtomRows.
  uint32_t num_rows = 0;
  uint32_t num_panels = 0;
  uint32_t num_blocks = 0;  ///< k blocks of rows and of the inputs of weights.
};

enum class GemmOutput : uint8_t {
  kNumbers,      ///< f32 [row][output], row by row.
  kActivations,  ///< silu(gate) * up: f32 [row][output]; of bf16 and f8, rows as layout.h has them.
};

/// Where products go.
struct GemmTarget {
  std::byte* out = nullptr;     ///< Device address.
  uint32_t out_stride = 0;      ///< Numbers from row to row; or rows of a k block.
  uint32_t out_cols = 0;        ///< kNumbers: outputs from here on are left out.
  const float* bias = nullptr;  ///< Device address or null; kNumbers.
};

/// A matrix that all rows go through.
struct GemmMap {
  const std::byte* weights = nullptr;  ///< Device address of the first panel.
  uint32_t num_panels = 0;
  GemmTarget target;
};

/// Of one launch. They are arguments of the kernels, which should be few.
inline constexpr uint32_t kMaxGemmMaps = 4;

/// Rows go through the weights of the tile that they are in, or all of them through each of `maps`:
/// the matrices of one launch are read by many multiprocessors at once, where those of a small one
/// alone would keep few of them busy.
struct GemmArgs {
  WeightFormat format = WeightFormat::kF32;  ///< Of the weights; rows are in its arithmetic.
  GemmOutput output = GemmOutput::kNumbers;
  const std::byte* rows = nullptr;  ///< Device address, as layout.h has it.
  /// If not null, where rows lie encoded, one after the other, and are fetched from instead. Only
  /// without a table, and if can_fetch() says so.
  const std::byte* encoded = nullptr;
  uint32_t rows_stride = 0;
  uint32_t rows_blocks = 0;         ///< k blocks of `rows`, as of maps; scales are behind (q8).
  const GemmTile* tiles = nullptr;  ///< Device address; all go to maps[0].target. Null: `maps`.
  uint32_t num_tiles = 0;           ///< Of each map: tile i begins with row i * max_rows.
  uint32_t max_panels = 0;          ///< Largest num_panels, and num_rows of a tile.
  uint32_t max_rows = 0;
  uint32_t num_rows = 0;  ///< That go through the maps.
  uint32_t num_maps = 0;
  GemmMap maps[kMaxGemmMaps];
  bool portable = false;  ///< Also on Hopper the kernel of other devices, to compare with.
};

/// Copies from pinned host memory, in no order: multiples of 16 bytes.
struct FetchArgs {
  static constexpr uint32_t kMaxPieces = 8;
  struct Piece {
    std::byte* to = nullptr;
    const std::byte* from = nullptr;
    uint32_t bytes = 0;
  } pieces[kMaxPieces];
  uint32_t num_pieces = 0;
};

/// The source of a row that is nobody's.
inline constexpr uint32_t kNoRow = 0xffffffffu;

/// Lays out encoded rows (types.h), one after the other at `encoded`, for gemm(): row i of `out` is
/// row source[i]. Rows with source kNoRow are left as they are.
struct GatherArgs {
  WeightFormat format = WeightFormat::kF32;
  const std::byte* encoded = nullptr;
  uint32_t cols = 0;
  const uint32_t* source = nullptr;  ///< Device address, [rows]; null: row i is row i.
  uint32_t num_rows = 0;
  std::byte* out = nullptr;
  uint32_t out_stride = 0;
  uint32_t out_blocks = 0;
};

/// Encodes f32 activations, as Backend::encode() does and to the bit, into rows for gemm(). Rows
/// are those of tiles of the product that made them, num_panels * 64 numbers each; without a table
/// all rows, as GemmArgs cuts them, of numbers_stride.
struct EncodeArgs {
  WeightFormat format = WeightFormat::kF32;  ///< kF32 or kQ8.
  const float* numbers = nullptr;            ///< [rows][stride]
  uint32_t numbers_stride = 0;
  const GemmTile* tiles = nullptr;  ///< Device address or null.
  uint32_t num_tiles = 0;
  uint32_t max_rows = 0;    ///< Largest num_rows of the tiles.
  uint32_t num_rows = 0;    ///< Of all, without a table.
  uint32_t out_blocks = 0;  ///< k blocks of `out`; what is not of a row becomes zero.
  std::byte* out = nullptr;
  uint32_t out_stride = 0;
};

/// out[r] = sum over i in [first[r], first[r + 1]) of gates[i] * products[rows[i]], in this order;
/// each product is rounded before it is added.
struct CombineArgs {
  const float* products = nullptr;  ///< [*][products_stride]
  uint32_t products_stride = 0;
  const uint32_t* first = nullptr;  ///< [num_rows + 1]
  const uint32_t* rows = nullptr;
  const float* gates = nullptr;
  float* out = nullptr;  ///< [num_rows][cols]
  uint32_t num_rows = 0;
  uint32_t cols = 0;
};

}  // namespace pregate::compute::cuda
