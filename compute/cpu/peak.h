// Loops that do nothing but an instruction set's products, to measure its limit.
// Included only by the kernel sources; everything is internal to them.
#pragma once

#include "compute/cpu/kernels.h"
#include "compute/cpu/vector.h"

namespace pregate::compute::cpu {
namespace {

/// Independent products in flight: two a cycle, each up to five cycles long.
constexpr size_t kChains = 10;

/// Step::apply(x) is one instruction whose result depends on x; Step::kOps operations.
template <class Step>
void run_peak(size_t iterations) {
  using Vector = typename Step::Vector;
  Vector chains[kChains];
  for (size_t c = 0; c < kChains; ++c) chains[c] = Step::start();
  for (size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (size_t c = 0; c < kChains; ++c) chains[c] = Step::apply(chains[c]);
  }
  for (const Vector& chain : chains) [[maybe_unused]] const volatile auto used = chain[0];
}

template <class Isa>
struct F32Peak {
  using Vector = typename Vectors<Isa::kLanes>::F32;
  static constexpr size_t kOps = 2 * Isa::kLanes;
  static Vector start() { return broadcast<Vector>(1.0f); }
  static Vector apply(Vector x) {
    return Isa::fma(x, broadcast<Vector>(0.5f), broadcast<Vector>(0.25f));
  }
};

template <class Step>
constexpr PeakLoop peak_loop() {
  return {run_peak<Step>, kChains * Step::kOps};
}

}  // namespace
}  // namespace pregate::compute::cpu
