// What the kernels of every instruction set share: vectors of kLanes numbers, written with the
// compilers' vector types. Included only by the kernel sources; everything is internal to them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/types.h"

namespace pregate::compute::cpu {
namespace {

template <size_t kLanes>
struct Vectors {
  typedef float F32 __attribute__((vector_size(4 * kLanes)));
  typedef int32_t I32 __attribute__((vector_size(4 * kLanes)));
  typedef uint32_t U32 __attribute__((vector_size(4 * kLanes)));
  typedef uint16_t U16 __attribute__((vector_size(4 * kLanes)));  ///< Two in a lane.
};

/// Groups of kQ8Group inputs of a row.
[[gnu::always_inline]] inline size_t num_groups(size_t cols) {
  return (cols + kQ8Group - 1) / kQ8Group;
}

template <typename T>
[[gnu::always_inline]] inline T load(const void* from) {
  T value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}

template <typename T>
[[gnu::always_inline]] inline void store(void* to, T value) {
  __builtin_memcpy(to, &value, sizeof(value));
}

/// x - 0 is x for every x, so compilers reduce this to a broadcast.
template <typename Vector, typename T>
[[gnu::always_inline]] inline Vector broadcast(T x) {
  return x - Vector{};
}

/// e^x to within 2 units in the last place for x in [-87.3, 88.3]; above as 88.3, below 0. A NaN
/// stays a NaN. Products and sums are not fused: the same bits on every instruction set.
template <size_t kLanes>
[[gnu::always_inline]] inline typename Vectors<kLanes>::F32 exp(typename Vectors<kLanes>::F32 x) {
  using F32 = typename Vectors<kLanes>::F32;
  using I32 = typename Vectors<kLanes>::I32;
  using U32 = typename Vectors<kLanes>::U32;
  // x = n ln2 + r. Adding 1.5 * 2^23 leaves n, rounded, in the low bits of the sum. ln2 is split so
  // that n * kLn2High is exact.
  constexpr float kRound = 0x1.8p23f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const F32 highest = broadcast<F32>(88.3f);
  const F32 bounded = x > highest ? highest : x;
  const F32 shifted = bounded * 1.44269504f + kRound;
  const F32 n = shifted - kRound;
  const F32 r = (bounded - n * kLn2High) - n * kLn2Low;
  // Minimax polynomial of (e^r - 1 - r) / r^2 on [-ln2 / 2, ln2 / 2] (Cephes, expf).
  F32 p = broadcast<F32>(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // Unsigned: of an x that underflows the bits wrap, and are masked below.
  const U32 exponent = (reinterpret_cast<U32>(shifted) << 23) + (127u << 23);
  const F32 result = p * reinterpret_cast<F32>(exponent);
  const I32 underflow = x < broadcast<F32>(-87.3f);
  return reinterpret_cast<F32>(reinterpret_cast<I32>(result) & ~underflow);
}

}  // namespace
}  // namespace pregate::compute::cpu
