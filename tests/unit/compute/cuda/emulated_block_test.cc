// That kernels which a device would let do anything at all fail here, with a reason.
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include <gmock/gmock.h>

#include "compute/number.h"
#include "tests/support/emulated_cuda/block.h"
#include "tests/support/emulated_cuda/matrix_units.h"

namespace pregate::emulated {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kThreads = 64;

std::string run_kernel(std::function<void()> body, Index num_blocks = {1, 1, 1},
                       size_t shared_bytes = 1024) {
  return run({num_blocks, kThreads, shared_bytes, std::move(body)});
}

float& number(uint32_t i) { return reinterpret_cast<float*>(shared_memory())[i]; }

TEST(EmulatedBlock, EveryThreadOfEveryBlockRunsOnce) {
  std::multiset<std::vector<uint32_t>> seen, expected;
  EXPECT_EQ(run_kernel(
                [&] {
                  EXPECT_EQ(block_count.y, 2u);
                  EXPECT_EQ(thread_count.x, kThreads);
                  seen.insert({block_index.x, block_index.y, block_index.z, thread_index.x});
                },
                {3, 2, 2}),
            "");
  for (uint32_t block = 0; block < 12; ++block) {
    for (uint32_t thread = 0; thread < kThreads; ++thread) {
      expected.insert({block % 3, block / 3 % 2, block / 6, thread});
    }
  }
  EXPECT_EQ(seen, expected);
}

TEST(EmulatedBlock, ABarrierHoldsTheWholeBlock) {
  uint32_t arrived = 0;
  EXPECT_EQ(run_kernel([&] {
              for (uint32_t round = 1; round <= 3; ++round) {
                ++arrived;
                wait_for_block();
                EXPECT_EQ(arrived, round * kThreads);
                wait_for_block();
              }
            }),
            "");
}

TEST(EmulatedBlock, ABarrierThatSomeDoNotReachFails) {
  EXPECT_THAT(run_kernel([] {
                if (thread_index.x < 32) wait_for_block();
              }),
              HasSubstr("threads 0 to 31 in __syncthreads, threads 32 to 63 at its end"));
  // And what comes after it is not disturbed.
  uint32_t ran = 0;
  EXPECT_EQ(run_kernel([&] { ++ran; }), "");
  EXPECT_EQ(ran, kThreads);
}

TEST(EmulatedBlock, LanesThatAreApartFail) {
  EXPECT_THAT(run_kernel([] {
                if (thread_index.x % 2 == 0) {
                  turn_over(0);
                } else {
                  largest(0);
                }
              }),
              HasSubstr("lanes of one warp are apart"));
  EXPECT_THAT(run_kernel([] {
                if (thread_index.x != 40) largest(0);
              }),
              HasSubstr("threads 41 to 63 in __reduce_max_sync"));
}

TEST(EmulatedBlock, SharedMemoryIsNobodysUntilItIsWritten) {
  EXPECT_EQ(run_kernel(
                [] {
                  EXPECT_TRUE(std::isnan(number(thread_index.x)));
                  number(thread_index.x) = 1.0f;
                },
                {3, 1, 1}),
            "");
}

TEST(EmulatedBlock, SharedMemoryEnds) {
  EXPECT_THAT(run_kernel([] { shared_pointer(shared_address(&number(252)) + 16, 16, 16); }),
              HasSubstr("16 bytes at 1024 of 1024 bytes of shared memory"));
  EXPECT_THAT(run_kernel([] { shared_pointer(shared_address(&number(1)), 16, 16); }),
              HasSubstr("16 bytes of shared memory at 4"));
  float outside = 0.0f;
  EXPECT_THAT(run_kernel([&] { shared_address(&outside); }), HasSubstr("not in shared memory"));
}

TEST(EmulatedBlock, CopiesAreThereWhenTheirGroupWasWaitedFor) {
  alignas(16) const float from[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  EXPECT_EQ(run_kernel([&] {
              if (thread_index.x != 0) return;
              for (uint32_t i = 0; i < 12; ++i) number(i) = -1.0f;
              for (uint32_t i = 0; i < 12; i += 4) {
                copy_later(shared_address(&number(i)), from + i, 16);
                close_group();
              }
              EXPECT_TRUE(std::isnan(number(0)));
              wait_for_groups(2);
              EXPECT_EQ(number(3), 3.0f);
              EXPECT_TRUE(std::isnan(number(4)));
              wait_for_groups(0);
              EXPECT_EQ(number(11), 11.0f);
            }),
            "");
  EXPECT_THAT(run_kernel([&] { copy_later(shared_address(&number(0)), from + 1, 16); }),
              HasSubstr("odd address"));
  EXPECT_EQ(run_kernel([&] { copy_later(shared_address(&number(1)), from + 1, 4); }), "");
}

TEST(EmulatedBlock, AWarpReducesAndTurnsOver) {
  EXPECT_EQ(run_kernel([] {
              const uint32_t lane = thread_index.x % kLanes, warp = thread_index.x / kLanes;
              EXPECT_EQ(largest(int32_t(100 * warp + lane * 7 % kLanes)), int32_t(100 * warp + 31));
              // Number 10 r + c of row r and column c, and then of column r and row c.
              const uint32_t row = lane / 4, col = 2 * (lane % 4);
              const uint32_t pair = (10 * row + col) | (10 * row + col + 1) << 16;
              EXPECT_EQ(turn_over(pair), (10 * col + row) | (10 * (col + 1) + row) << 16);
            }),
            "");
}

/// A number of a matrix whose fragment a test makes.
float entry(uint32_t row, uint32_t col) { return float(int32_t(row * 5 + col * 3) % 11) - 5.0f; }

TEST(EmulatedBlock, ProductsOfFragments) {
  EXPECT_EQ(run_kernel([] {
              const uint32_t line = thread_index.x % kLanes / 4, at = thread_index.x % 4;
              const auto bf16 = [&](uint32_t row, uint32_t col) {
                return uint32_t(compute::f32_to_bf16(entry(row, col))) |
                       uint32_t(compute::f32_to_bf16(entry(row, col + 1))) << 16;
              };
              const auto int8 = [&](uint32_t row, uint32_t col) {
                uint32_t bits = 0;
                for (uint32_t i = 0; i < 4; ++i) {
                  bits |= uint32_t(uint8_t(int8_t(entry(row, col + i)))) << (8 * i);
                }
                return bits;
              };
              // b is the transpose of the first eight rows of a.
              const uint32_t halves[4] = {bf16(line, 2 * at), bf16(line + 8, 2 * at),
                                          bf16(line, 2 * at + 8), bf16(line + 8, 2 * at + 8)};
              const uint32_t bytes[4] = {int8(line, 4 * at), int8(line + 8, 4 * at),
                                         int8(line, 4 * at + 16), int8(line + 8, 4 * at + 16)};
              float sums[4] = {1.0f, 1.0f, 1.0f, 1.0f};
              int32_t counts[4] = {1, 1, 1, 1};
              multiply_bf16(sums, halves, halves[0], halves[2]);
              multiply_int8(counts, bytes, bytes[0], bytes[2]);
              for (uint32_t i = 0; i < 4; ++i) {
                const uint32_t row = line + i / 2 * 8, col = 2 * at + i % 2;
                float sum = 1.0f;
                for (uint32_t k = 0; k < 16; ++k) sum += entry(row, k) * entry(col, k);
                EXPECT_EQ(sums[i], sum);
                for (uint32_t k = 16; k < 32; ++k) sum += entry(row, k) * entry(col, k);
                EXPECT_EQ(float(counts[i]), sum);
              }
            }),
            "");
}

}  // namespace
}  // namespace pregate::emulated
