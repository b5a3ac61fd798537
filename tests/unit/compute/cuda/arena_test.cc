#include "compute/cuda/arena.h"

#include <map>
#include <mutex>
#include <optional>

#include <gmock/gmock.h>

#include "base/random.h"
#include "base/thread_pool.h"

namespace pregate::compute::cuda {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMebibyte = size_t{1} << 20;
constexpr size_t kGibibyte = size_t{1} << 30;

/// Gives out addresses of memory that is not there.
class PaperDevice final : public Device {
 public:
  explicit PaperDevice(size_t memory_bytes) : free_bytes_(memory_bytes) {}

  DeviceInfo info() const override { return {}; }
  Result<std::byte*> allocate(size_t bytes) override {
    const std::scoped_lock lock(mutex_);
    if (is_lost_) return fail(ErrorCode::kUnavailable, "paper burnt");
    if (bytes > free_bytes_) return fail(ErrorCode::kResourceExhausted, "paper is short");
    free_bytes_ -= bytes;
    auto* const memory = reinterpret_cast<std::byte*>(next_);
    next_ += bytes + Arena::kAlignment - bytes % Arena::kAlignment;
    allocated_.emplace(memory, bytes);
    return memory;
  }
  void free(std::byte* memory) override {
    const std::scoped_lock lock(mutex_);
    free_bytes_ += allocated_.extract(memory).mapped();
  }
  Result<std::byte*> allocate_pinned(size_t) override { return unknown(); }
  void free_pinned(std::byte*) override {}
  Result<std::unique_ptr<Stream>> make_stream() override { return unknown(); }
  Result<DeviceLimits> measure_limits() override { return unknown(); }

  void lose() { is_lost_ = true; }
  size_t num_allocated() const {
    const std::scoped_lock lock(mutex_);
    return allocated_.size();
  }

 private:
  static tl::unexpected<Error> unknown() { return fail(ErrorCode::kUnimplemented, "on paper"); }

  mutable std::mutex mutex_;
  bool is_lost_ = false;
  size_t free_bytes_;
  uintptr_t next_ = 64 * Arena::kAlignment;
  std::map<std::byte*, size_t> allocated_;
};

class ArenaTest : public ::testing::Test {
 protected:
  Arena make(size_t budget_bytes, size_t memory_bytes = 1000 * kGibibyte) {
    device_ = std::make_shared<PaperDevice>(memory_bytes);
    return {device_, "cuda:0", budget_bytes};
  }

  std::shared_ptr<PaperDevice> device_;
};

TEST_F(ArenaTest, BlocksAreAligned) {
  Arena arena = make(kMebibyte);
  const auto first = arena.allocate(1).value(), second = arena.allocate(1025).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first.data()) % Arena::kAlignment, 0U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(second.data()) % Arena::kAlignment, 0U);
  EXPECT_EQ(first.size_bytes(), 1024U);
  EXPECT_EQ(second.size_bytes(), 2048U);
  EXPECT_EQ(arena.used_bytes(), 3072U);
  EXPECT_EQ(arena.free_bytes(), kMebibyte - 3072);
  EXPECT_EQ(device_->num_allocated(), 1U);
}

TEST_F(ArenaTest, SaysWhatIsMissing) {
  Arena arena = make(kMebibyte);
  const auto most = arena.allocate(kMebibyte - 4096).value();
  const auto refused = arena.allocate(6000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error().message,
            "cuda:0: 6.0 KiB for weights: 4.0 KiB of the budget of 1.0 MiB is free");
  EXPECT_FALSE(arena.allocate(SIZE_MAX));
  EXPECT_TRUE(arena.allocate(4096));
}

TEST_F(ArenaTest, NeighboursThatAreFreeBecomeOne) {
  for (const std::vector<size_t>& order :
       {std::vector<size_t>{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 1, 3}, {1, 3, 2, 0}, {2, 0, 3, 1}}) {
    Arena arena = make(4096 * 4);
    std::vector<Arena::Block> blocks;
    for (size_t i = 0; i < 4; ++i) blocks.push_back(arena.allocate(4096).value());
    for (const size_t i : order) blocks[i] = {};
    EXPECT_EQ(arena.used_bytes(), 0U);
    EXPECT_TRUE(arena.allocate(4096 * 4));
    EXPECT_EQ(device_->num_allocated(), 1U);
  }
}

TEST_F(ArenaTest, SaysThatWhatIsFreeIsNotInOnePiece) {
  Arena arena = make(4096 * 4);
  std::vector<Arena::Block> blocks;
  for (size_t i = 0; i < 4; ++i) blocks.push_back(arena.allocate(4096).value());
  blocks[0] = {};
  blocks[2] = {};
  EXPECT_THAT(arena.allocate(8192, "the cache").error().message,
              HasSubstr("8.0 KiB for the cache: 8.0 KiB of the budget of 16.0 KiB is free, but not "
                        "in one piece"));
  EXPECT_TRUE(arena.allocate(4096));
}

TEST_F(ArenaTest, ServesWhatTheDeviceStillGives) {
  Arena arena = make(10 * kGibibyte, 300 * kMebibyte);
  const auto first = arena.allocate(200 * kMebibyte).value();
  const auto refused = arena.allocate(200 * kMebibyte);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(refused.error().message, HasSubstr("the device gives no more: paper is short"));
  EXPECT_EQ(arena.used_bytes(), 200 * kMebibyte);
  EXPECT_TRUE(arena.allocate(100 * kMebibyte));
}

TEST_F(ArenaTest, ALostDeviceIsNoLackOfMemory) {
  Arena arena = make(kMebibyte);
  device_->lose();
  EXPECT_EQ(arena.allocate(1).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(arena.allocate(1).error().message, "paper burnt");
  EXPECT_EQ(arena.used_bytes(), 0U);
}

TEST_F(ArenaTest, EqualBlocksTakeAllOfTheBudget) {
  constexpr size_t kExpertBytes = 352 * kMebibyte;
  Arena arena = make(10 * kExpertBytes);
  std::vector<Arena::Block> experts;
  for (size_t i = 0; i < 10; ++i) experts.push_back(arena.allocate(kExpertBytes).value());
  EXPECT_EQ(arena.free_bytes(), 0U);
  experts[3] = {};
  EXPECT_TRUE(arena.allocate(kExpertBytes));
}

TEST_F(ArenaTest, MemoryThatIsFreeServesOtherSizes) {
  Arena arena = make(3 * kGibibyte);
  {
    std::vector<Arena::Block> blocks;
    for (size_t i = 0; i < 12; ++i) blocks.push_back(arena.allocate(256 * kMebibyte).value());
  }
  EXPECT_TRUE(arena.allocate(3 * kGibibyte));
  EXPECT_TRUE(arena.allocate(1));
}

TEST_F(ArenaTest, BlocksMayOutliveIt) {
  std::optional<Arena> arena = make(kMebibyte);
  Arena::Block block = arena->allocate(4096).value();
  arena.reset();
  EXPECT_EQ(device_->num_allocated(), 1U);
  const Arena::Block moved = std::move(block);
  EXPECT_EQ(moved.size_bytes(), 4096U);
  block = {};
  EXPECT_EQ(device_->num_allocated(), 1U);
  const_cast<Arena::Block&>(moved) = {};
  EXPECT_EQ(device_->num_allocated(), 0U);
}

TEST_F(ArenaTest, BlocksNeverOverlap) {
  constexpr size_t kBudget = 16 * kMebibyte;
  Arena arena = make(kBudget);
  Random random(7);
  std::map<std::byte*, Arena::Block> blocks;
  size_t used = 0;
  for (size_t i = 0; i < 20'000; ++i) {
    if (random.next_below(2) == 0 && !blocks.empty()) {
      const auto victim =
          std::next(blocks.begin(), std::ptrdiff_t(random.next_below(blocks.size())));
      used -= victim->second.size_bytes();
      blocks.erase(victim);
    } else if (auto block = arena.allocate(1 + random.next_below(kMebibyte * 3 / 2))) {
      used += block->size_bytes();
      const auto [at, fresh] = blocks.emplace(block->data(), std::move(*block));
      ASSERT_TRUE(fresh);
      ASSERT_TRUE(at == blocks.begin() ||
                  std::prev(at)->first + std::prev(at)->second.size_bytes() <= at->first);
      ASSERT_TRUE(std::next(at) == blocks.end() ||
                  at->first + at->second.size_bytes() <= std::next(at)->first);
    }
    ASSERT_EQ(arena.used_bytes(), used);
    ASSERT_LE(used, kBudget);
  }
  blocks.clear();
  EXPECT_TRUE(arena.allocate(kBudget));
}

TEST_F(ArenaTest, ServesManyThreads) {
  Arena arena = make(8 * kMebibyte);
  ThreadPool threads(4);
  threads.run([&](size_t thread) {
    Random random(thread);
    std::vector<Arena::Block> blocks(16);
    for (size_t i = 0; i < 2000; ++i) {
      auto block = arena.allocate(1 + random.next_below(kMebibyte / 4));
      blocks[random.next_below(blocks.size())] = block ? std::move(*block) : Arena::Block();
    }
  });
  EXPECT_EQ(arena.used_bytes(), 0U);
  EXPECT_TRUE(arena.allocate(8 * kMebibyte));
}

TEST(ArenaBudget, LeavesRoomForRows) {
  EXPECT_EQ(Arena::default_budget(80 * kGibibyte), 76 * kGibibyte);
  EXPECT_EQ(Arena::default_budget(8 * kGibibyte), 7 * kGibibyte);
  EXPECT_EQ(Arena::default_budget(kMebibyte), 0U);
}

}  // namespace
}  // namespace pregate::compute::cuda
