// Kernels for AVX2 and FMA.
#include <immintrin.h>

#include "compute/cpu/kernel_table.h"

namespace pregate::compute::cpu {
namespace {

struct Avx2 {
  static constexpr size_t kLanes = 8;
  static constexpr size_t kFloatRows = 6, kQ8Rows = 4, kQ4Rows = 2;
  static constexpr bool kQ8RowSums = false;
  using F32 = Vectors<kLanes>::F32;
  using I32 = Vectors<kLanes>::I32;

  static F32 fma(F32 a, F32 b, F32 c) { return F32(_mm256_fmadd_ps(a, b, c)); }
  static F32 load_bf16(const std::byte* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return reinterpret_cast<F32>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }

  static F32 load_f8(const std::byte* from) {
    const __m128i codes =
        _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    // A shift leaves a copy of the sign beside it.
    const __m128i bits = _mm_and_si128(_mm_slli_epi16(codes, 7), _mm_set1_epi16(short(0xbf80)));
    return F32(_mm256_cvtph_ps(bits));
  }

  // The byte product wants one unsigned operand, so the sign of a weight moves to the row's value:
  // w * x = |w| * (sign(w) x). Pairs of products fit 16 bits: 2 * 127 * 127 < 2^15. Widening the
  // weights to 16 bits instead takes as many instructions per product and twice the row bytes.
  struct Q8Weights {
    __m256i signs, magnitudes;
  };
  static Q8Weights load_q8(const std::byte* from) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return {w, _mm256_abs_epi8(w)};
  }
  static I32 dot4(I32 sum, Q8Weights w, I32 x) {
    const __m256i signed_x = _mm256_sign_epi8(reinterpret_cast<__m256i>(x), w.signs);
    const __m256i pairs = _mm256_maddubs_epi16(w.magnitudes, signed_x);
    return sum + reinterpret_cast<I32>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static I32 dot4_codes(I32 sum, I32 codes, I32 x) {
    const __m256i pairs =
        _mm256_maddubs_epi16(reinterpret_cast<__m256i>(codes), reinterpret_cast<__m256i>(x));
    return sum + reinterpret_cast<I32>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  /// What bounds dot4 is its multiplications, byte and word alike: one per 16 products.
  struct Int8Peak {
    using Vector = I32;
    static constexpr size_t kOps = 2 * 16;
    static I32 start() { return broadcast<I32>(0x00010001); }
    static I32 apply(I32 x) {
      return reinterpret_cast<I32>(
          _mm256_madd_epi16(reinterpret_cast<__m256i>(x), _mm256_set1_epi16(1)));
    }
  };
};

}  // namespace

constinit const KernelSet kAvx2Kernels = make_kernels<Avx2>("cpu/avx2");

}  // namespace pregate::compute::cpu
