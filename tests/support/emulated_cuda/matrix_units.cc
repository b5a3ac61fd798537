#include "tests/support/emulated_cuda/matrix_units.h"

#include <algorithm>
#include <cstring>

#include "compute/number.h"
#include "tests/support/emulated_cuda/block.h"

namespace pregate::emulated {
namespace {

using Operands = void* const (&)[kLanes];

constexpr uint32_t kMatrixRows = 8;  // of ldmatrix, 16 bytes each
// Of products: a has kRows, b kCols.
constexpr uint32_t kRows = 16, kCols = 8;

template <typename T>
T& operand(Operands operands, uint32_t lane) {
  return *static_cast<T*>(operands[lane]);
}

template <uint32_t kCount>
struct Load {
  uint32_t address;
  uint32_t* out;

  static void work(Operands operands) {
    for (uint32_t m = 0; m < kCount; ++m) {
      for (uint32_t row = 0; row < kMatrixRows; ++row) {
        const uint32_t address = operand<Load>(operands, kMatrixRows * m + row).address;
        uint32_t pairs[4];
        std::memcpy(pairs, shared_pointer(address, sizeof(pairs), sizeof(pairs)), sizeof(pairs));
        for (uint32_t i = 0; i < 4; ++i) operand<Load>(operands, 4 * row + i).out[m] = pairs[i];
      }
    }
  }
};

struct Turn {
  uint32_t pair;
  uint32_t turned = 0;

  /// Row and column are exchanged.
  static void work(Operands operands) {
    const auto number = [&](uint32_t row, uint32_t col) {
      return operand<Turn>(operands, 4 * row + col / 2).pair >> (16 * (col % 2)) & 0xffff;
    };
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t row = lane / 4, col = 2 * (lane % 4);
      operand<Turn>(operands, lane).turned = number(col, row) | number(col + 1, row) << 16;
    }
  }
};

struct Largest {
  int32_t value;

  static void work(Operands operands) {
    int32_t most = operand<Largest>(operands, 0).value;
    for (uint32_t lane = 1; lane < kLanes; ++lane) {
      most = std::max(most, operand<Largest>(operands, lane).value);
    }
    for (uint32_t lane = 0; lane < kLanes; ++lane) operand<Largest>(operands, lane).value = most;
  }
};

template <typename T>
struct Exchange {
  T value;
  uint32_t mask;
  T received = {};

  static void work(Operands operands) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      auto& own = operand<Exchange>(operands, lane);
      own.received = operand<Exchange>(operands, (lane ^ own.mask) % kLanes).value;
    }
  }
};

struct Shift {
  uint32_t value, steps;
  uint32_t received = 0;

  static void work(Operands operands) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      auto& own = operand<Shift>(operands, lane);
      const uint32_t from = lane < own.steps ? lane : lane - own.steps;
      own.received = operand<Shift>(operands, from).value;
    }
  }
};

/// Numbers as they lie in a register, the first one lowest. Integers are exact in f32: a product
/// sums up 32 of at most 2^14.
struct Bf16Numbers {
  static constexpr uint32_t kCount = 2;
  static float at(uint32_t bits, uint32_t i) {
    return compute::bf16_to_f32(uint16_t(bits >> (16 * i)));
  }
};
struct Int8Numbers {
  static constexpr uint32_t kCount = 4;
  static float at(uint32_t bits, uint32_t i) { return int8_t(bits >> (8 * i)); }
};

/// a and b of all lanes, as matrices of f32. Lane l has, of rows l / 4 and l / 4 + 8 of a, and of
/// column l / 4 of b, what is at l % 4 registers, and half a row further.
template <typename Numbers, typename Sum>
struct Product {
  static constexpr uint32_t kDepth = 8 * Numbers::kCount;

  Sum* sum;
  const uint32_t* a;
  uint32_t b[2];

  static void work(Operands operands) {
    float a[kRows][kDepth], b[kDepth][kCols], sums[kRows][kCols] = {};
    read(operands, a, b);
    add_products(a, b, sums);
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      Sum* const out = operand<Product>(operands, lane).sum;
      for (uint32_t i = 0; i < 4; ++i) {
        out[i] += Sum(sums[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2]);
      }
    }
  }

  /// Much of a kernel's time, and in these arrays alone: no sanitizer need watch.
  __attribute__((no_sanitize("address", "undefined"))) static void add_products(
      const float (&a)[kRows][kDepth], const float (&b)[kDepth][kCols],
      float (&sums)[kRows][kCols]) {
    for (uint32_t row = 0; row < kRows; ++row) {
      for (uint32_t k = 0; k < kDepth; ++k) {
        for (uint32_t col = 0; col < kCols; ++col) sums[row][col] += a[row][k] * b[k][col];
      }
    }
  }

  static void read(Operands operands, float (&a)[kRows][kDepth], float (&b)[kDepth][kCols]) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const auto& own = operand<Product>(operands, lane);
      const uint32_t line = lane / 4, first = lane % 4 * Numbers::kCount;
      for (uint32_t half = 0; half < 2; ++half) {
        for (uint32_t i = 0; i < Numbers::kCount; ++i) {
          const uint32_t k = half * kDepth / 2 + first + i;
          a[line][k] = Numbers::at(own.a[2 * half], i);
          a[line + 8][k] = Numbers::at(own.a[2 * half + 1], i);
          b[k][line] = Numbers::at(own.b[half], i);
        }
      }
    }
  }
};

constexpr WarpOperation kLoad4{"ldmatrix.x4", Load<4>::work};
constexpr WarpOperation kLoad2{"ldmatrix.x2", Load<2>::work};
constexpr WarpOperation kTurn{"movmatrix", Turn::work};
constexpr WarpOperation kLargest{"__reduce_max_sync", Largest::work};
template <typename T>
constexpr WarpOperation kExchange{"__shfl_xor_sync", Exchange<T>::work};
constexpr WarpOperation kShift{"__shfl_up_sync", Shift::work};
constexpr WarpOperation kBf16Product{"mma.m16n8k16", Product<Bf16Numbers, float>::work};
constexpr WarpOperation kInt8Product{"mma.m16n8k32", Product<Int8Numbers, int32_t>::work};

}  // namespace

void load_matrices_4(uint32_t (&out)[4], uint32_t address) {
  Load<4> load{address, out};
  meet(kLoad4, &load);
}

void load_matrices_2(uint32_t (&out)[2], uint32_t address) {
  Load<2> load{address, out};
  meet(kLoad2, &load);
}

uint32_t turn_over(uint32_t pair) {
  Turn turn{pair};
  meet(kTurn, &turn);
  return turn.turned;
}

void multiply_bf16(float* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product<Bf16Numbers, float> product{sum, a, {b0, b1}};
  meet(kBf16Product, &product);
}

void multiply_int8(int32_t* sum, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product<Int8Numbers, int32_t> product{sum, a, {b0, b1}};
  meet(kInt8Product, &product);
}

int32_t largest(int32_t value) {
  Largest most{value};
  meet(kLargest, &most);
  return most.value;
}

template <typename T>
T exchange(T value, uint32_t mask) {
  Exchange<T> exchange{value, mask};
  meet(kExchange<T>, &exchange);
  return exchange.received;
}
template float exchange(float, uint32_t);
template uint64_t exchange(uint64_t, uint32_t);

uint32_t shift(uint32_t value, uint32_t steps) {
  Shift shift{value, steps};
  meet(kShift, &shift);
  return shift.received;
}

}  // namespace pregate::emulated
