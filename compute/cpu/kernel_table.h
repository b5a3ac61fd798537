// Makes the table of an instruction set from its class (see multiply.h).
// Included only by the kernel sources; everything is internal to them.
#pragma once

#include "compute/cpu/attend.h"
#include "compute/cpu/encode.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/multiply.h"
#include "compute/cpu/multiply_q4.h"
#include "compute/cpu/peak.h"

namespace pregate::compute::cpu {
namespace {

template <class Isa>
constexpr MultiplyKernel wide_bf16_kernel() {
  return {1, Isa::kFloatRows, multiply_float_rows<Isa, WideBf16Step<Isa>>, widen_group,
          widened_row_bytes};
}

template <class Isa>
constexpr MultiplyKernel q8_kernel() {
  return {4, Isa::kQ8Rows, multiply_q8_rows<Isa>, nullptr, nullptr};
}

template <class Isa>
constexpr MultiplyKernel q4_kernel() {
  return {8, Isa::kQ4Rows, multiply_q4_rows<Isa>, prepare_q4_group, q4_row_bytes, expand_q4<Isa>};
}

template <class Isa>
constexpr MultiplyKernel f8_kernel() {
  return {1, Isa::kFloatRows, multiply_float_rows<Isa, WideF8Step<Isa>>, widen_group,
          widened_row_bytes};
}

template <class Isa>
constexpr KernelSet make_kernels(const char* name, PeakLoop bf16_peak = peak_loop<F32Peak<Isa>>(),
                                 MultiplyKernel bf16 = wide_bf16_kernel<Isa>(),
                                 MultiplyKernel q8 = q8_kernel<Isa>()) {
  KernelSet set;
  set.name = name;
  set.panel_outputs = 2 * Isa::kLanes;
  set.multiply = {
      MultiplyKernel{1, Isa::kFloatRows, multiply_float_rows<Isa, F32Step<Isa>>, nullptr, nullptr},
      bf16, q8, q4_kernel<Isa>(), f8_kernel<Isa>()};
  set.encode_group = {encode_f32_group, encode_bf16_group, encode_q8_group<Isa>,
                      encode_q8_group<Isa>, encode_bf16_group};
  set.round_q4 = round_q4;
  set.silu_multiply = silu_multiply<Isa>;
  set.attend = {attend<Isa, F32Elements<Isa>>, attend<Isa, Bf16Elements<Isa>>};
  set.f32_peak = peak_loop<F32Peak<Isa>>();
  set.bf16_peak = bf16_peak;
  set.int8_peak = peak_loop<typename Isa::Int8Peak>();
  return set;
}

}  // namespace
}  // namespace pregate::compute::cpu
