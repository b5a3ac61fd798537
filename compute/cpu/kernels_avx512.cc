// Kernels for AVX-512 with VNNI and BF16 (Zen 4, Sapphire Rapids and later).
#include <immintrin.h>

#include "compute/cpu/kernel_table.h"

namespace pregate::compute::cpu {
namespace {

struct Avx512 {
  static constexpr size_t kLanes = 16;
  static constexpr size_t kFloatRows = 6, kQ8Rows = 6, kQ4Rows = 4;
  static constexpr bool kQ8RowSums = true;
  using F32 = Vectors<kLanes>::F32;
  using I32 = Vectors<kLanes>::I32;

  static F32 fma(F32 a, F32 b, F32 c) { return F32(_mm512_fmadd_ps(a, b, c)); }
  static F32 load_bf16(const std::byte* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    // All lanes chosen: the form without a mask makes GCC 12 warn of its own header.
    return reinterpret_cast<F32>(reinterpret_cast<I32>(_mm512_maskz_cvtepu16_epi32(0xffff, bits))
                                 << 16);
  }

  static F32 load_f8(const std::byte* from) {
    const __m256i codes =
        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    // A shift leaves a copy of the sign beside it.
    const __m256i bits =
        _mm256_and_si256(_mm256_slli_epi16(codes, 7), _mm256_set1_epi16(short(0xbf80)));
    return F32(_mm512_maskz_cvtph_ps(0xffff, bits));
  }

  // vpdpbusd wants one unsigned operand: weights become w + 128, which is w with its top bit
  // turned.
  using Q8Weights = __m512i;
  static Q8Weights load_q8(const std::byte* from) {
    return _mm512_xor_si512(_mm512_loadu_si512(from), _mm512_set1_epi8(-128));
  }
  static I32 dot4(I32 sum, Q8Weights w, I32 x) {
    return reinterpret_cast<I32>(
        _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), w, reinterpret_cast<__m512i>(x)));
  }
  static I32 dot4_codes(I32 sum, I32 codes, I32 x) {
    return dot4(sum, reinterpret_cast<__m512i>(codes), x);
  }

  struct Int8Peak {
    using Vector = I32;
    static constexpr size_t kOps = 2 * 64;
    static I32 start() { return broadcast<I32>(0x01010101); }
    static I32 apply(I32 x) { return dot4(x, _mm512_set1_epi8(1), broadcast<I32>(0x01010101)); }
  };
};

/// Products of bf16 pairs without widening.
struct Bf16PairStep {
  static constexpr size_t kInputs = 2;
  static constexpr size_t kVectorBytes = 64;
  static constexpr bool kScaled = false;
  static __m512i weights(const std::byte* from) { return _mm512_loadu_si512(from); }
  static __m512i row(const std::byte* row, size_t step) {
    return _mm512_set1_epi32(load<int32_t>(row + 4 * step));
  }
  static Avx512::F32 add_product(Avx512::F32 sum, __m512i w, __m512i x) {
    return Avx512::F32(
        _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x)));
  }
};

struct Bf16Peak {
  using Vector = Avx512::F32;
  static constexpr size_t kOps = 2 * 32;
  static Vector start() { return Vector{}; }
  static Vector apply(Vector x) {
    const __m512i ones = _mm512_set1_epi32(0x3f803f80);
    return Bf16PairStep::add_product(x, ones, ones);
  }
};

/// bf16 rows with an even number of columns.
size_t paired_row_bytes(size_t cols) { return (cols + 1) / 2 * 4; }

void pair_group(const std::byte* encoded, size_t cols, size_t group, std::byte* prepared) {
  const size_t first = group * kQ8Group;
  const size_t count = cols - first < kQ8Group ? cols - first : kQ8Group;
  __builtin_memcpy(prepared + 2 * first, encoded + 2 * first, 2 * count);
  if (count % 2 != 0) store(prepared + 2 * (first + count), uint16_t{0});
}

/// Encoded q8 rows followed by the sum of each group, an int32.
size_t summed_row_bytes(size_t cols) { return num_groups(cols) * (4 + kQ8Group + 4); }

void sum_group(const std::byte* encoded, size_t cols, size_t group, std::byte* prepared) {
  const size_t groups = num_groups(cols);
  const int8_t* values = copy_q8_group(encoded, groups, group, prepared);
  store(prepared + group_sum_at(groups, group), sum_of<kQ8Group>(values));
}

}  // namespace

constinit const KernelSet kAvx512Kernels = make_kernels<Avx512>(
    "cpu/avx512", peak_loop<Bf16Peak>(),
    {2, Avx512::kFloatRows, multiply_float_rows<Avx512, Bf16PairStep>, pair_group,
     paired_row_bytes},
    {4, Avx512::kQ8Rows, multiply_q8_rows<Avx512>, sum_group, summed_row_bytes});

}  // namespace pregate::compute::cpu
