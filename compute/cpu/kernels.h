// The innermost loops of the CPU back end, one set per instruction set. A set is a table of plain
// functions: its source file is compiled with that instruction set's flags, so nothing in it may
// have external linkage except the table (the linker might otherwise keep a copy of a shared inline
// function that only a newer processor can run).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "compute/q4.h"
#include "compute/types.h"

namespace pregate::compute::cpu {

/// One call of a multiplication: a few rows times one panel.
///
/// A panel holds the weights of `panel_outputs` outputs, input by input, so that a kernel reads it
/// once from front to back. Within it, the weights of `step_inputs` neighbouring inputs of an
/// output lie together:
///   f32, bf16  [inputs / step_inputs][panel_outputs][step_inputs]
///   q8         per group of kQ8Group inputs: that for int8, then panel_outputs f32 scales
///   f8         as q8, for codes in E4M3
///   q4         per group of kQ8Group inputs: panel_outputs uint32, whose 4 bits from 4p on are the
///              factor of part p; panel_outputs bf16 scales; then for 8 inputs at a time
///              [panel_outputs][4] bytes, the i-th of which has code + 8 of input i below and that
///              of input i + 4 above
/// Missing outputs and inputs are zero: in q4 scales of such outputs, and rows at such inputs.
struct Tile {
  const std::byte* const* rows = nullptr;  ///< num_rows prepared rows.
  size_t num_rows = 0;                     ///< At most MultiplyKernel::max_rows.
  size_t cols = 0;                         ///< Inputs.
  const std::byte* panel = nullptr;
  float* out = nullptr;  ///< [num_rows][panel_outputs], dense.
};

/// The most outputs of a panel and rows of a tile in any set.
inline constexpr size_t kMaxPanelOutputs = 32;
inline constexpr size_t kMaxTileRows = 16;

/// How one weight format is multiplied. Each row of a tile is summed in the same order whatever the
/// number of rows.
struct MultiplyKernel {
  size_t step_inputs = 1;
  size_t max_rows = 1;
  void (*multiply)(const Tile& tile) = nullptr;
  /// Where a kernel does not read encoded rows as they are: turns kQ8Group columns, beginning with
  /// group * kQ8Group, of an encoded row of `cols` into the form it does read. Else null.
  void (*prepare_group)(const std::byte* encoded, size_t cols, size_t group,
                        std::byte* prepared) = nullptr;
  size_t (*prepared_row_bytes)(size_t cols) = nullptr;
  /// q4: writes the panel as one of q8. The q8 kernel then gives the same bits for the same
  /// prepared rows, and sooner from kExpandRows on. Else null.
  void (*expand)(const std::byte* panel, size_t cols, std::byte* q8_panel) = nullptr;
};

/// Rows of a panel from which on it pays to expand it.
inline constexpr size_t kExpandRows = 32;

/// The rows that attend together to one KV head, at most kMaxQueries of them.
inline constexpr size_t kMaxQueries = 4;
/// Attention rescales its sums once per span of tokens, counted from the sequence's start, so that
/// how a prompt was cut into chunks does not change a bit.
inline constexpr size_t kSpanBlocks = 4;
inline constexpr size_t kSpanTokens = 16 * kSpanBlocks;

/// Running softmax of one query over the spans seen so far.
struct QueryState {
  const float* q = nullptr;   ///< [head_dim]
  float* sum = nullptr;       ///< [value_width], weighted values.
  float largest = 0.0f;       ///< Largest score.
  float total = 0.0f;         ///< Sum of weights.
  size_t first = 0, end = 0;  ///< Positions it sees.
};

/// Keys of a block are [head_dim][16 tokens], so that the scores of a block are one vector; values
/// are [16 tokens][value_width].
struct AttentionSpan {
  QueryState* queries = nullptr;
  size_t num_queries = 0;
  size_t head_dim = 0;
  size_t value_width = 0;  ///< head_dim, padded to a multiple of 16.
  float scale = 1.0f;
  size_t first_position = 0;              ///< Of the span; a multiple of kSpanTokens.
  size_t first_block = 0, end_block = 0;  ///< Of the span: those that any query sees.
  const std::byte* keys[kSpanBlocks] = {};
  const std::byte* values[kSpanBlocks] = {};
};

/// A loop of products and nothing else (limits.h).
struct PeakLoop {
  void (*run)(size_t iterations) = nullptr;
  size_t ops_per_iteration = 0;
};

struct KernelSet {
  const char* name = "";
  size_t panel_outputs = 0;
  std::array<MultiplyKernel, kNumWeightFormats> multiply;  ///< By WeightFormat.
  /// Encodes `count` <= kQ8Group columns of a row of `cols`, beginning with group * kQ8Group.
  /// `encoded` is the whole row. By WeightFormat.
  using EncodeGroup = void (*)(const float* x, size_t count, size_t cols, size_t group,
                               std::byte* encoded);
  std::array<EncodeGroup, kNumWeightFormats> encode_group{};
  /// Rounds `count` <= kQ8Group weights of an output.
  void (*round_q4)(const float* weights, size_t count, Q4Group& group) = nullptr;
  /// out[i] = silu(gate[i]) * up[i]; out may be gate.
  void (*silu_multiply)(const float* gate, const float* up, size_t count, float* out) = nullptr;
  /// Adds a span to the state of each query. By DType (kF32, kBf16).
  std::array<void (*)(const AttentionSpan&), 2> attend{};
  PeakLoop f32_peak, bf16_peak, int8_peak;

  constexpr const MultiplyKernel& multiply_of(WeightFormat format) const {
    return multiply[static_cast<size_t>(format)];
  }
};

extern const KernelSet kGenericKernels;
extern const KernelSet kAvx2Kernels;
extern const KernelSet kAvx512Kernels;

/// The sets this processor can run, the fastest first; the last is kGenericKernels.
std::vector<const KernelSet*> supported_kernels();

}  // namespace pregate::compute::cpu
