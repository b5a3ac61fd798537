// In place of compute/cuda/kernels/ptx.cuh where kernels are compiled for the processor: the same
// functions, of which the documentation is there.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "compute/number.h"
#include "tests/support/emulated_cuda/barriers.h"
#include "tests/support/emulated_cuda/matrix_units.h"
#include "tests/support/emulated_cuda/warpgroup.h"

namespace pregate::compute::cuda {
namespace {

inline uint8_t* dynamic_shared_memory() {
  return reinterpret_cast<uint8_t*>(emulated::shared_memory());
}

inline uint32_t shared_address(const void* pointer) { return emulated::shared_address(pointer); }

inline void store_shared(uint32_t to, const uint4& four) {
  memcpy(emulated::shared_pointer(to, sizeof(four), sizeof(four)), &four, sizeof(four));
}

// Kernels run one after the other.

inline void let_next_kernel_start() {}
inline void wait_for_kernels_before() {}

inline void prefetch(const void*) {}

inline void copy_async_16(uint32_t to, const void* from) { emulated::copy_later(to, from, 16); }
inline void copy_async_4(uint32_t to, const void* from) { emulated::copy_later(to, from, 4); }
inline void commit_copies() { emulated::close_group(); }
template <int kPending>
inline void wait_for_copies() {
  emulated::wait_for_groups(kPending);
}

inline void load_matrices_4(uint32_t (&out)[4], uint32_t address) {
  emulated::load_matrices_4(out, address);
}
inline void load_matrices_2(uint32_t (&out)[2], uint32_t address) {
  emulated::load_matrices_2(out, address);
}
inline uint32_t turn_over(uint32_t pair) { return emulated::turn_over(pair); }

inline void multiply_bf16(float* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulated::multiply_bf16(sum, a, b0, b1);
}
inline uint32_t multiply_pairs(uint32_t a, uint32_t b) {
  const auto product = [a, b](uint32_t shift) {
    const float exact = bf16_to_f32(uint16_t(a >> shift)) * bf16_to_f32(uint16_t(b >> shift));
    return uint32_t(f32_to_bf16(exact)) << shift;
  };
  return product(0) | product(16);
}
inline void multiply_int8(int32_t* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulated::multiply_int8(sum, a, b0, b1);
}

inline void init_barrier(uint32_t barrier, uint32_t num_arrivals) {
  emulated::init_barrier(barrier, num_arrivals);
}
inline void publish_barriers() {}
inline void arrive(uint32_t barrier) { emulated::arrive(barrier); }
inline void arrive_expecting(uint32_t barrier, uint32_t bytes) {
  emulated::arrive_expecting(barrier, bytes);
}
inline void wait_for_phase(uint32_t barrier, uint32_t parity) {
  emulated::wait_for_phase(barrier, parity);
}
inline void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  emulated::copy_bulk(to, from, bytes, barrier);
}

inline void show_to_products() {}

template <int kRegisters>
inline void give_up_registers() {}
template <int kRegisters>
inline void take_registers() {}

inline void begin_products() { emulated::begin_products(); }
inline void commit_products() { emulated::commit_products(); }
template <int kPending>
inline void wait_for_products() {
  emulated::wait_for_products(kPending);
}

}  // namespace
}  // namespace pregate::compute::cuda
