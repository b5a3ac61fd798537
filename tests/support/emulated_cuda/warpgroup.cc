#include "tests/support/emulated_cuda/warpgroup.h"

#include <cstring>
#include <map>
#include <vector>

#include "compute/number.h"
#include "tests/support/emulated_cuda/block.h"

namespace pregate::emulated {
namespace {

using Operands = void* const (&)[kLanes];

constexpr uint32_t kDepth = 16, kWarpRows = 16, kMaxCols = 256;
constexpr uint32_t kChunkBytes = 16;

struct Product {
  uint32_t num_cols = 0;
  uint64_t a = 0, b = 0;
  float* sums[kLanes] = {};
};

/// Of a warp.
struct Products {
  bool begun = false;
  std::vector<Product> open;                 // no group's yet
  std::vector<std::vector<Product>> groups;  // not made
};

/// Of the one block that runs, by warp.
std::map<uint32_t, Products> all_products;

Products& of_warp() { return all_products[thread_index.x / kLanes]; }

struct Lane {
  float* sums;
  uint32_t num_cols;
  uint64_t a, b;
};

/// Where row `row` of a matrix begins that a descriptor names: its address, 16-byte units of it,
/// in bits 0 to 13, that of 8 rows further in bits 32 to 45, the kind of swizzle in bits 61 to 63.
uint32_t row_address(uint64_t descriptor, uint32_t row) {
  constexpr uint32_t kUnit = 16, kField = 0x3fff, kSwizzle128 = 2, kAtom = 8, kRowBytes = 128;
  if (descriptor >> 61 != kSwizzle128) fail("a matrix whose swizzle is not of 128 bytes");
  const uint32_t first = (descriptor & kField) * kUnit;
  const uint32_t atom_bytes = (descriptor >> 32 & kField) * kUnit;
  return first + row / kAtom * atom_bytes + row % kAtom * kRowBytes;
}

/// 16 numbers of a row. Addresses are swizzled, and not places in a matrix: bits 4 to 6 with bits 7
/// to 9.
void read_row(uint64_t descriptor, uint32_t row, float (&numbers)[kDepth]) {
  const uint32_t begin = row_address(descriptor, row);
  for (uint32_t chunk = 0; chunk < 2; ++chunk) {
    const uint32_t address = begin + chunk * kChunkBytes;
    uint16_t halves[8];
    std::memcpy(halves, shared_pointer(address ^ (address >> 3 & 0x70), kChunkBytes, kChunkBytes),
                sizeof(halves));
    for (uint32_t i = 0; i < 8; ++i) numbers[8 * chunk + i] = compute::bf16_to_f32(halves[i]);
  }
}

void make(const Product& product) {
  static float b[kDepth][kMaxCols], sums[kWarpRows][kMaxCols];
  float numbers[kDepth];
  for (uint32_t col = 0; col < product.num_cols; ++col) {
    read_row(product.b, col, numbers);
    for (uint32_t k = 0; k < kDepth; ++k) b[k][col] = numbers[k];
  }
  const uint32_t first_row = thread_index.x / kLanes % 4 * kWarpRows;
  for (uint32_t row = 0; row < kWarpRows; ++row) {
    read_row(product.a, first_row + row, numbers);
    std::memset(sums[row], 0, sizeof(sums[row]));
    for (uint32_t k = 0; k < kDepth; ++k) {
      for (uint32_t col = 0; col < product.num_cols; ++col)
        sums[row][col] += numbers[k] * b[k][col];
    }
  }
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    for (uint32_t i = 0; i < product.num_cols / 2; ++i) {
      product.sums[lane][i] += sums[lane / 4 + i / 2 % 2 * 8][i / 4 * 8 + 2 * (lane % 4) + i % 2];
    }
  }
}

void begin(Operands) { of_warp().begun = true; }

void add(Operands operands) {
  if (!of_warp().begun) fail("products without wgmma.fence");
  const Lane& first = *static_cast<const Lane*>(operands[0]);
  Product product{first.num_cols, first.a, first.b};
  for (uint32_t i = 0; i < kLanes; ++i) {
    const Lane& lane = *static_cast<const Lane*>(operands[i]);
    if (lane.a != first.a || lane.b != first.b || lane.num_cols != first.num_cols) {
      fail("lanes of one warp multiply different matrices");
    }
    product.sums[i] = lane.sums;
  }
  of_warp().open.push_back(product);
}

void commit(Operands) {
  Products& products = of_warp();
  products.begun = false;
  products.groups.push_back(std::move(products.open));
  products.open.clear();
}

void wait(Operands operands) {
  const auto num_pending = *static_cast<const uint32_t*>(operands[0]);
  auto& groups = of_warp().groups;
  if (groups.size() <= num_pending) return;
  const auto end = groups.end() - num_pending;
  for (auto group = groups.begin(); group != end; ++group) {
    for (const Product& product : *group) make(product);
  }
  groups.erase(groups.begin(), end);
}

constexpr WarpOperation kBegin{"wgmma.fence", begin};
constexpr WarpOperation kAdd{"wgmma.mma_async", add};
constexpr WarpOperation kCommit{"wgmma.commit_group", commit};
constexpr WarpOperation kWait{"wgmma.wait_group", wait};

}  // namespace

void begin_products() { meet(kBegin, nullptr); }

void multiply_later(float* sums, uint32_t num_cols, uint64_t a, uint64_t b) {
  Lane lane{sums, num_cols, a, b};
  meet(kAdd, &lane);
}

void commit_products() { meet(kCommit, nullptr); }

void wait_for_products(uint32_t num_pending) { meet(kWait, &num_pending); }

void forget_products() { all_products.clear(); }

}  // namespace pregate::emulated
