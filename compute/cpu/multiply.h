// Rows times a panel, for an instruction set given as a class `Isa`:
//   kLanes                       f32 numbers in a vector; a panel has two vectors of outputs
//   kFloatRows, kQ8Rows, kQ4Rows most rows of a tile: their sums, two vectors each, stay in
//                                registers and leave room for what is multiplied
//   fma(a, b, c)                 a * b + c
//   load_bf16(from)              kLanes bf16 numbers as f32
//   load_f8(from)                kLanes codes in E4M3 as f32, times 2^-8: that is what f16 makes of
//                                their sign, exponent and mantissa
//   Q8Weights load_q8(from)      4 * kLanes int8: four inputs of each output
//   dot4(sum, weights, x)        adds the four products of each output; x holds the row's four
//                                values in every lane
//   dot4_codes(sum, codes, x)    the same for bytes of 0 to 15
//   kQ8RowSums                   whether dot4 takes weights as w + 128, so that 128 * sum(x) must
//                                be taken off again; prepared rows then carry that sum per group
// Included only by the kernel sources; everything is internal to them.
#pragma once

#include <utility>

#include "compute/cpu/kernels.h"
#include "compute/cpu/vector.h"

namespace pregate::compute::cpu {
namespace {

/// How far ahead of its use a weight is asked for. One row uses weights as fast as memory brings
/// them, and the processor's own prefetcher stops at each page.
constexpr size_t kPrefetchBytes = 2048;

template <size_t kBytes>
[[gnu::always_inline]] inline void prefetch(const std::byte* address) {
  for (size_t line = 0; line < kBytes; line += 64) {
    __builtin_prefetch(address + kPrefetchBytes + line);
  }
}

/// Steps of a float product: what a vector of weights and a row's share of it are, and whether the
/// weights of a group have a scale.
template <class Isa>
struct F32Step {
  using Operand = typename Vectors<Isa::kLanes>::F32;
  static constexpr size_t kInputs = 1;
  static constexpr size_t kVectorBytes = 4 * Isa::kLanes;
  static constexpr bool kScaled = false;
  static Operand weights(const std::byte* from) { return load<Operand>(from); }
  static Operand row(const std::byte* row, size_t step) {
    return broadcast<Operand>(load<float>(row + 4 * step));
  }
  static Operand add_product(Operand sum, Operand w, Operand x) { return Isa::fma(w, x, sum); }
};

/// bf16 weights widened to f32; prepared rows are f32.
template <class Isa>
struct WideBf16Step : F32Step<Isa> {
  using Operand = typename F32Step<Isa>::Operand;
  static constexpr size_t kVectorBytes = 2 * Isa::kLanes;
  static Operand weights(const std::byte* from) { return Isa::load_bf16(from); }
};

/// f8 weights widened to f32; prepared rows are f32. Also on processors that multiply pairs of
/// bf16: codes take longer to become bf16, and Sapphire Rapids multiplies half as many bf16 as f32.
template <class Isa>
struct WideF8Step : F32Step<Isa> {
  using Operand = typename F32Step<Isa>::Operand;
  static constexpr size_t kVectorBytes = Isa::kLanes;
  static constexpr bool kScaled = true;
  static constexpr float kUnit = 0x1p8f;  ///< What all weights are to be multiplied by.
  static Operand weights(const std::byte* from) { return Isa::load_f8(from); }
};

template <class Isa, typename F32, size_t kRows>
[[gnu::always_inline]] inline void store_sums(const Tile& tile, const F32 (&sums)[kRows][2]) {
  for (size_t r = 0; r < kRows; ++r) {
    store(tile.out + 2 * r * Isa::kLanes, sums[r][0]);
    store(tile.out + (2 * r + 1) * Isa::kLanes, sums[r][1]);
  }
}

/// Adds the products of steps [first, end); the panel's weights begin with the first of them.
template <class Step, typename F32, size_t kRows>
[[gnu::always_inline]] inline void add_steps(const Tile& tile, size_t first, size_t end,
                                             const std::byte* panel, F32 (&sums)[kRows][2]) {
  const std::byte* rows[kRows];
  for (size_t r = 0; r < kRows; ++r) rows[r] = tile.rows[r];
  for (size_t step = first; step < end; ++step, panel += 2 * Step::kVectorBytes) {
    prefetch<2 * Step::kVectorBytes>(panel);
    const auto w0 = Step::weights(panel);
    const auto w1 = Step::weights(panel + Step::kVectorBytes);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const auto x = Step::row(rows[r], step);
      sums[r][0] = Step::add_product(sums[r][0], w0, x);
      sums[r][1] = Step::add_product(sums[r][1], w1, x);
    }
  }
}

/// Adds the sums of each group, scaled.
template <class Isa, class Step, typename F32, size_t kRows>
[[gnu::always_inline]] inline void add_scaled_groups(const Tile& tile, size_t num_steps,
                                                     F32 (&sums)[kRows][2]) {
  constexpr size_t kSteps = kQ8Group / Step::kInputs;
  constexpr size_t kScaleBytes = 4 * Isa::kLanes;
  const std::byte* panel = tile.panel;
  for (size_t first = 0; first < num_steps; first += kSteps) {
    const size_t end = first + kSteps < num_steps ? first + kSteps : num_steps;
    F32 of_group[kRows][2] = {};
    add_steps<Step>(tile, first, end, panel, of_group);
    panel += 2 * kSteps * Step::kVectorBytes;
    const F32 scale0 = load<F32>(panel), scale1 = load<F32>(panel + kScaleBytes);
    panel += 2 * kScaleBytes;
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      sums[r][0] += of_group[r][0] * Step::kUnit * scale0;
      sums[r][1] += of_group[r][1] * Step::kUnit * scale1;
    }
  }
}

template <class Isa, class Step, size_t kRows>
void multiply_float(const Tile& tile) {
  const size_t num_steps = (tile.cols + Step::kInputs - 1) / Step::kInputs;
  typename Vectors<Isa::kLanes>::F32 sums[kRows][2] = {};
  if constexpr (Step::kScaled) {
    add_scaled_groups<Isa, Step>(tile, num_steps, sums);
  } else {
    add_steps<Step>(tile, 0, num_steps, tile.panel, sums);
  }
  store_sums<Isa>(tile, sums);
}

/// Where a prepared q8 row has the sum of a group's values.
inline size_t group_sum_at(size_t groups, size_t group) {
  return groups * (4 + kQ8Group) + 4 * group;
}

/// Adds the integer sums of a group, scaled. These operations, in the order of the groups, are the
/// same everywhere.
template <class Isa, typename F32, typename I32, size_t kRows>
[[gnu::always_inline]] inline void add_group(const Tile& tile, size_t group,
                                             const I32 (&dots)[kRows][2], const F32 (&scales)[2],
                                             F32 (&sums)[kRows][2]) {
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    const F32 scale = broadcast<F32>(load<float>(tile.rows[r] + 4 * group));
    sums[r][0] += __builtin_convertvector(dots[r][0], F32) * (scales[0] * scale);
    sums[r][1] += __builtin_convertvector(dots[r][1], F32) * (scales[1] * scale);
  }
}

/// Integer sums over a group are exact, so q8 gives the same bits on every instruction set.
template <class Isa, size_t kRows>
void multiply_q8(const Tile& tile) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  using I32 = typename Vectors<Isa::kLanes>::I32;
  constexpr size_t kVectorBytes = 4 * Isa::kLanes;
  const size_t groups = num_groups(tile.cols);
  const std::byte* panel = tile.panel;
  F32 sums[kRows][2] = {};
  for (size_t group = 0; group < groups; ++group) {
    const std::byte* values[kRows];
    I32 dots[kRows][2];
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      values[r] = tile.rows[r] + 4 * groups + group * kQ8Group;
      int32_t start = 0;
      if constexpr (Isa::kQ8RowSums) {
        start = -128 * load<int32_t>(tile.rows[r] + group_sum_at(groups, group));
      }
      dots[r][0] = dots[r][1] = broadcast<I32>(start);
    }
    for (size_t k = 0; k < kQ8Group; k += 4, panel += 2 * kVectorBytes) {
      prefetch<2 * kVectorBytes>(panel);
      const auto w0 = Isa::load_q8(panel);
      const auto w1 = Isa::load_q8(panel + kVectorBytes);
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        const I32 x = broadcast<I32>(load<int32_t>(values[r] + k));
        dots[r][0] = Isa::dot4(dots[r][0], w0, x);
        dots[r][1] = Isa::dot4(dots[r][1], w1, x);
      }
    }
    const F32 scale0 = load<F32>(panel);
    const F32 scale1 = load<F32>(panel + kVectorBytes);
    panel += 2 * kVectorBytes;
    add_group<Isa>(tile, group, dots, {scale0, scale1}, sums);
  }
  store_sums<Isa>(tile, sums);
}

/// One function per number of rows.
template <class Isa, class Step, size_t... kIndex>
void multiply_float_rows(const Tile& tile, std::index_sequence<kIndex...>) {
  constexpr void (*kByRows[])(const Tile&) = {multiply_float<Isa, Step, kIndex + 1>...};
  kByRows[tile.num_rows - 1](tile);
}

template <class Isa, class Step>
void multiply_float_rows(const Tile& tile) {
  multiply_float_rows<Isa, Step>(tile, std::make_index_sequence<Isa::kFloatRows>());
}

template <class Isa, size_t... kIndex>
void multiply_q8_rows(const Tile& tile, std::index_sequence<kIndex...>) {
  constexpr void (*kByRows[])(const Tile&) = {multiply_q8<Isa, kIndex + 1>...};
  kByRows[tile.num_rows - 1](tile);
}

template <class Isa>
void multiply_q8_rows(const Tile& tile) {
  multiply_q8_rows<Isa>(tile, std::make_index_sequence<Isa::kQ8Rows>());
}

/// Copies a group of an encoded q8 row, with which a prepared one begins; returns its values.
inline const int8_t* copy_q8_group(const std::byte* encoded, size_t groups, size_t group,
                                   std::byte* prepared) {
  const size_t first = 4 * groups + group * kQ8Group;
  __builtin_memcpy(prepared + 4 * group, encoded + 4 * group, 4);
  __builtin_memcpy(prepared + first, encoded + first, kQ8Group);
  return reinterpret_cast<const int8_t*>(encoded + first);
}

template <size_t kCount>
[[gnu::always_inline]] inline int32_t sum_of(const int8_t* values) {
  int32_t sum = 0;
  for (size_t i = 0; i < kCount; ++i) sum += values[i];
  return sum;
}

/// Prepared bf16 rows for WideBf16Step and WideF8Step.
inline size_t widened_row_bytes(size_t cols) { return 4 * cols; }

inline void widen_group(const std::byte* encoded, size_t cols, size_t group, std::byte* prepared) {
  const size_t first = group * kQ8Group;
  const size_t end = first + kQ8Group < cols ? first + kQ8Group : cols;
  for (size_t i = first; i < end; ++i) {
    const auto bits = static_cast<uint32_t>(load<uint16_t>(encoded + 2 * i)) << 16;
    store(prepared + 4 * i, bits);
  }
}

}  // namespace
}  // namespace pregate::compute::cpu
