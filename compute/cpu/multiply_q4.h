// Rows times a panel of weights in q4 (q4.h), for an instruction set as multiply.h has it: as they
// are, for few rows, or written out as a panel of q8 first.
// Included only by the kernel sources; everything is internal to them.
#pragma once

#include "compute/cpu/multiply.h"

namespace pregate::compute::cpu {
namespace {

/// The codes of 8 inputs of kLanes outputs: of the first four and of the last.
template <class Isa>
struct Q4Codes {
  using I32 = typename Vectors<Isa::kLanes>::I32;
  explicit Q4Codes(const std::byte* from) {
    const I32 packed = load<I32>(from);
    first = packed & 0x0f0f0f0f;
    last = (packed >> 4) & 0x0f0f0f0f;
  }
  I32 first, last;
};

/// Where prepare_q4_group() has left what is to be added to the sums of products of codes + 8.
inline size_t q4_offsets_at(size_t groups, size_t group) {
  return group_sum_at(groups, groups) + 4 * group * kQ4Parts;
}

/// The sums over a group are integers, so it does not matter that factors come in later than they
/// do in the numbers that expand_q4() writes.
template <class Isa, size_t kRows>
void multiply_q4(const Tile& tile) {
  using F32 = typename Vectors<Isa::kLanes>::F32;
  using I32 = typename Vectors<Isa::kLanes>::I32;
  constexpr size_t kVectorBytes = 4 * Isa::kLanes;
  const size_t groups = num_groups(tile.cols);
  const std::byte* panel = tile.panel;
  F32 sums[kRows][2] = {};
  for (size_t group = 0; group < groups; ++group) {
    prefetch<3 * kVectorBytes>(panel);
    I32 factors0 = load<I32>(panel);
    I32 factors1 = load<I32>(panel + kVectorBytes);
    panel += 2 * kVectorBytes;
    const F32 scale0 = Isa::load_bf16(panel);
    const F32 scale1 = Isa::load_bf16(panel + kVectorBytes / 2);
    panel += kVectorBytes;
    I32 totals[kRows][2] = {};
    for (size_t part = 0; part < kQ4Parts; ++part) {
      I32 dots[kRows][2];
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        const std::byte* offsets = tile.rows[r] + q4_offsets_at(groups, group);
        dots[r][0] = dots[r][1] = broadcast<I32>(load<int32_t>(offsets + 4 * part));
      }
#pragma GCC unroll 2
      for (size_t k = 0; k < kQ4Part; k += 8, panel += 2 * kVectorBytes) {
        prefetch<2 * kVectorBytes>(panel);
        const Q4Codes<Isa> w0(panel), w1(panel + kVectorBytes);
#pragma GCC unroll 8
        for (size_t r = 0; r < kRows; ++r) {
          const std::byte* values =
              tile.rows[r] + 4 * groups + group * kQ8Group + part * kQ4Part + k;
          const I32 first = broadcast<I32>(load<int32_t>(values));
          const I32 last = broadcast<I32>(load<int32_t>(values + 4));
          dots[r][0] = Isa::dot4_codes(dots[r][0], w0.first, first);
          dots[r][1] = Isa::dot4_codes(dots[r][1], w1.first, first);
          dots[r][0] = Isa::dot4_codes(dots[r][0], w0.last, last);
          dots[r][1] = Isa::dot4_codes(dots[r][1], w1.last, last);
        }
      }
      const I32 factor0 = factors0 & 15, factor1 = factors1 & 15;
      factors0 >>= 4;
      factors1 >>= 4;
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        totals[r][0] += dots[r][0] * factor0;
        totals[r][1] += dots[r][1] * factor1;
      }
    }
    add_group<Isa>(tile, group, totals, {scale0, scale1}, sums);
  }
  store_sums<Isa>(tile, sums);
}

/// Four codes of kLanes outputs each times their factors, as int8.
template <class Isa>
[[gnu::always_inline]] inline void store_q4_products(typename Vectors<Isa::kLanes>::I32 codes,
                                                     typename Vectors<Isa::kLanes>::I32 factor,
                                                     std::byte* out) {
  using I32 = typename Vectors<Isa::kLanes>::I32;
  using U16 = typename Vectors<Isa::kLanes>::U16;
  const U16 factors = reinterpret_cast<U16>(factor | factor << 16);
  const U16 offsets = reinterpret_cast<U16>((factor | factor << 16) << 3);
  const auto products = [&](I32 pairs) {
    return reinterpret_cast<I32>(reinterpret_cast<U16>(pairs) * factors - offsets);
  };
  const I32 even = products(codes & 0x000f000f), odd = products((codes >> 8) & 0x000f000f);
  store(out, (even & 0x00ff00ff) | (odd & 0x00ff00ff) << 8);
}

template <class Isa>
void expand_q4(const std::byte* panel, size_t cols, std::byte* q8_panel) {
  using I32 = typename Vectors<Isa::kLanes>::I32;
  constexpr size_t kVectorBytes = 4 * Isa::kLanes;
  for (size_t group = 0; group * kQ8Group < cols; ++group) {
    const I32 factors[] = {load<I32>(panel), load<I32>(panel + kVectorBytes)};
    const std::byte* scales = panel + 2 * kVectorBytes;
    panel += 3 * kVectorBytes;
    for (size_t k = 0; k < kQ8Group; k += 8, q8_panel += 4 * kVectorBytes) {
      for (size_t half = 0; half < 2; ++half, panel += kVectorBytes) {
        const Q4Codes<Isa> codes(panel);
        const I32 factor = (factors[half] >> static_cast<int>(k / kQ4Part * 4)) & 15;
        std::byte* out = q8_panel + half * kVectorBytes;
        store_q4_products<Isa>(codes.first, factor, out);
        store_q4_products<Isa>(codes.last, factor, out + 2 * kVectorBytes);
      }
    }
    for (size_t half = 0; half < 2; ++half, q8_panel += kVectorBytes) {
      store(q8_panel, Isa::load_bf16(scales + half * kVectorBytes / 2));
    }
  }
}

template <class Isa, size_t... kIndex>
void multiply_q4_rows(const Tile& tile, std::index_sequence<kIndex...>) {
  constexpr void (*kByRows[])(const Tile&) = {multiply_q4<Isa, kIndex + 1>...};
  kByRows[tile.num_rows - 1](tile);
}

template <class Isa>
void multiply_q4_rows(const Tile& tile) {
  multiply_q4_rows<Isa>(tile, std::make_index_sequence<Isa::kQ4Rows>());
}

/// Encoded q8 rows followed by the sum of each group, an int32, and what is to be added for each
/// part because codes are multiplied as code + 8.
inline size_t q4_row_bytes(size_t cols) {
  return num_groups(cols) * (4 + kQ8Group + 4 + 4 * kQ4Parts);
}

inline void prepare_q4_group(const std::byte* encoded, size_t cols, size_t group,
                             std::byte* prepared) {
  const size_t groups = num_groups(cols);
  const int8_t* values = copy_q8_group(encoded, groups, group, prepared);
  store(prepared + group_sum_at(groups, group), sum_of<kQ8Group>(values));
  std::byte* const offsets = prepared + q4_offsets_at(groups, group);
  for (size_t part = 0; part < kQ4Parts; ++part) {
    store(offsets + 4 * part, -8 * sum_of<kQ4Part>(values + part * kQ4Part));
  }
}

}  // namespace
}  // namespace pregate::compute::cpu
