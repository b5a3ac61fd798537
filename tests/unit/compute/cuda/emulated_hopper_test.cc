// Barriers, bulk copies and products of warpgroups, where a kernel uses them well and where not.
#include <cmath>
#include <cstring>
#include <vector>

#include <gmock/gmock.h>

#include "compute/number.h"
#include "tests/support/emulated_cuda/barriers.h"
#include "tests/support/emulated_cuda/block.h"
#include "tests/support/emulated_cuda/warpgroup.h"

namespace pregate::emulated {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kThreads = 128;
constexpr size_t kSharedBytes = 16 << 10;
constexpr uint32_t kDataAt = 1024;  // in shared memory, after the barriers

std::string run_kernel(std::function<void()> body) {
  return run({{1, 1, 1}, kThreads, kSharedBytes, std::move(body)});
}

uint32_t at(uint32_t offset) { return shared_address(shared_memory() + offset); }

float& number(uint32_t i) { return reinterpret_cast<float*>(shared_memory() + kDataAt)[i]; }

TEST(EmulatedHopper, ACopyIsThereWhenItsPhaseIsComplete) {
  alignas(16) const float from[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(run_kernel([&] {
              if (thread_index.x == 0) init_barrier(at(0), 1);
              wait_for_block();
              for (uint32_t round = 0; round < 3; ++round) {
                if (thread_index.x == 0) {
                  arrive_expecting(at(0), sizeof(from));
                  copy_bulk(at(kDataAt), from, 16, at(0));
                  copy_bulk(at(kDataAt + 16), from + 4, 16, at(0));
                  EXPECT_TRUE(std::isnan(number(7)));
                }
                wait_for_phase(at(0), round % 2);
                EXPECT_EQ(number(thread_index.x % 8), float(thread_index.x % 8));
                wait_for_block();
              }
            }),
            "");
}

TEST(EmulatedHopper, ABarrierIsOfSoManyArrivals) {
  uint32_t arrived = 0;
  EXPECT_EQ(run_kernel([&] {
              if (thread_index.x == 0) init_barrier(at(0), kThreads / 2);
              wait_for_block();
              if (thread_index.x % 2 == 0) {
                ++arrived;
                arrive(at(0));
              } else {
                wait_for_phase(at(0), 0);
                EXPECT_EQ(arrived, kThreads / 2);
              }
            }),
            "");
}

TEST(EmulatedHopper, MistakesWithBarriersFail) {
  alignas(16) const float from[4] = {};
  EXPECT_THAT(run_kernel([] { arrive(at(8)); }), HasSubstr("a barrier that was not made"));
  EXPECT_THAT(run_kernel([] { init_barrier(at(8), 1); }), HasSubstr("two barriers"));
  EXPECT_THAT(run_kernel([] {
                if (thread_index.x == 0) init_barrier(at(0), 1);
                wait_for_block();
                wait_for_phase(at(0), 0);
              }),
              HasSubstr("threads 0 to 127 in mbarrier.try_wait"));
  EXPECT_THAT(run_kernel([&] {
                if (thread_index.x > 0) return;
                init_barrier(at(0), 1);
                arrive_expecting(at(0), 16);
                arrive(at(0));
              }),
              HasSubstr("more arrivals than a barrier has"));
  EXPECT_THAT(run_kernel([&] {
                if (thread_index.x > 0) return;
                init_barrier(at(0), 1);
                copy_bulk(at(kDataAt), from, 16, at(0));
              }),
              HasSubstr("it ended before its copies did"));
}

/// 64 rows of 16 numbers, as rows of 128 bytes whose 16-byte chunk c lies at c ^ (row % 8).
float entry(uint32_t row, uint32_t k) { return float(int32_t(row * 7 + k * 3) % 13) - 6.0f; }

void write_matrix() {
  for (uint32_t row = thread_index.x; row < 64; row += kThreads) {
    for (uint32_t k = 0; k < 16; ++k) {
      const uint16_t bits = compute::f32_to_bf16(entry(row, k));
      const uint32_t chunk = (k / 8) ^ (row % 8);
      std::memcpy(shared_memory() + kDataAt + row * 128 + chunk * 16 + k % 8 * 2, &bits, 2);
    }
  }
  wait_for_block();
}

/// Swizzle of 128 bytes, eight rows 1024 bytes apart.
uint64_t descriptor() { return 1ull << 62 | (1024ull / 16) << 32 | at(kDataAt) / 16; }

TEST(EmulatedHopper, ProductsAreThereWhenTheirGroupWasWaitedFor) {
  EXPECT_EQ(run_kernel([] {
              write_matrix();
              float sums[4] = {};
              begin_products();
              multiply_later(sums, 8, descriptor(), descriptor());
              multiply_later(sums, 8, descriptor(), descriptor());
              commit_products();
              wait_for_products(1);
              EXPECT_EQ(sums[0], 0.0f);
              wait_for_products(0);
              for (uint32_t i = 0; i < 4; ++i) {
                const uint32_t lane = thread_index.x % kLanes;
                const uint32_t row = thread_index.x / kLanes * 16 + lane / 4 + i / 2 * 8;
                float sum = 0.0f;
                for (uint32_t k = 0; k < 16; ++k) {
                  sum += entry(row, k) * entry(2 * (lane % 4) + i % 2, k);
                }
                EXPECT_EQ(sums[i], 2 * sum);
              }
            }),
            "");
}

TEST(EmulatedHopper, MistakesWithProductsFail) {
  EXPECT_THAT(run_kernel([] {
                float sums[4] = {};
                multiply_later(sums, 8, descriptor(), descriptor());
              }),
              HasSubstr("products without wgmma.fence"));
  EXPECT_THAT(run_kernel([] {
                float sums[4] = {};
                begin_products();
                multiply_later(sums, 8, descriptor(), descriptor() + thread_index.x);
              }),
              HasSubstr("lanes of one warp multiply different matrices"));
}

}  // namespace
}  // namespace pregate::emulated
