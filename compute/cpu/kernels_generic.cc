// Kernels for any processor, with the compilers' vector types only.
#include "compute/cpu/kernel_table.h"

namespace pregate::compute::cpu {
namespace {

struct Generic {
  static constexpr size_t kLanes = 4;
  static constexpr size_t kFloatRows = 4, kQ8Rows = 4, kQ4Rows = 2;
  static constexpr bool kQ8RowSums = false;
  using F32 = Vectors<kLanes>::F32;
  using I32 = Vectors<kLanes>::I32;
  using U32 = Vectors<kLanes>::U32;

  static F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
  static F32 load_bf16(const std::byte* from) {
    typedef uint16_t U16 __attribute__((vector_size(2 * kLanes)));
    return reinterpret_cast<F32>(__builtin_convertvector(load<U16>(from), I32) << 16);
  }

  static F32 load_f8(const std::byte* from) {
    typedef int8_t I8 __attribute__((vector_size(kLanes)));
    // A shift leaves copies of the sign beside it; a product puts the exponent right.
    constexpr auto kSignAndMagnitude = static_cast<int32_t>(0x87f00000);
    const I32 bits =
        (__builtin_convertvector(load<I8>(from), I32) << 20) & broadcast<I32>(kSignAndMagnitude);
    return reinterpret_cast<F32>(bits) * 0x1p112f;
  }

  using Q8Weights = I32;
  static Q8Weights load_q8(const std::byte* from) { return load<I32>(from); }
  /// Byte `n` of each lane, with its sign.
  template <int n>
  static I32 byte(I32 x) {
    return (x << (24 - 8 * n)) >> 24;
  }
  static I32 dot4(I32 sum, I32 w, I32 x) {
    const I32 products = byte<0>(w) * byte<0>(x) + byte<1>(w) * byte<1>(x) +
                         byte<2>(w) * byte<2>(x) + byte<3>(w) * byte<3>(x);
    // Unsigned, so that the sum wraps as it does in the other kernels' instructions.
    return reinterpret_cast<I32>(reinterpret_cast<U32>(sum) + reinterpret_cast<U32>(products));
  }
  static I32 dot4_codes(I32 sum, I32 codes, I32 x) { return dot4(sum, codes, x); }

  struct Int8Peak {
    using Vector = I32;
    static constexpr size_t kOps = 2 * 4 * kLanes;
    static I32 start() { return I32{1, 2, 3, 4}; }
    static I32 apply(I32 x) { return dot4(x, x, x); }
  };
};

}  // namespace

constinit const KernelSet kGenericKernels = make_kernels<Generic>("cpu/generic");

}  // namespace pregate::compute::cpu
