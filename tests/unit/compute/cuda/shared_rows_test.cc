// What becomes of a device's memory that is shared. How it is used: tests/conformance/compute.
#include "compute/cuda/shared_rows.h"

#include <array>

#include <gtest/gtest.h>

#include "compute/cuda/row_space.h"
#include "tests/support/fake_device.h"

namespace pregate::compute::cuda {
namespace {

class CudaSharedRowsTest : public ::testing::Test {
 protected:
  static constexpr size_t kMebibyte = size_t{1} << 20;

  const std::shared_ptr<FakeDevice> device_ = std::make_shared<FakeDevice>(8 * kMebibyte);
  const std::unique_ptr<Stream> stream_ = device_->make_stream().value();
  std::shared_ptr<CudaSharedRows> shared_ =
      std::make_shared<CudaSharedRows>(device_, device_->make_stream().value());
};

TEST_F(CudaSharedRowsTest, BlocksAreGivenOutAgain) {
  auto first = shared_->allocate(100'000).value();
  const std::byte* const address = first.get();
  const size_t used_bytes = device_->used_bytes();
  EXPECT_GE(used_bytes, 100'000u);
  const auto second = shared_->allocate(100'000).value();
  EXPECT_NE(second.get(), address);
  EXPECT_EQ(device_->used_bytes(), 2 * used_bytes);
  first = nullptr;
  EXPECT_EQ(shared_->allocate(131'072).value().get(), address);
  EXPECT_EQ(shared_->allocate(70'000).value().get(), address);
  EXPECT_NE(shared_->allocate(131'073).value().get(), address);
}

TEST_F(CudaSharedRowsTest, SmallOnesAreAllOfOneSize) {
  const std::byte* const address = shared_->allocate(0).value().get();
  EXPECT_EQ(shared_->allocate(1).value().get(), address);
  EXPECT_EQ(shared_->allocate(65'536).value().get(), address);
  EXPECT_EQ(device_->used_bytes(), 65'536u);
}

TEST_F(CudaSharedRowsTest, WhatIsKeptMakesRoom) {
  ASSERT_TRUE(shared_->allocate(4 * kMebibyte));  // and dropped
  const auto small = shared_->allocate(kMebibyte).value();
  EXPECT_EQ(device_->used_bytes(), 5 * kMebibyte);
  const auto other = shared_->allocate(2 * kMebibyte).value();
  EXPECT_EQ(device_->used_bytes(), 7 * kMebibyte);
  auto more = shared_->allocate(2 * kMebibyte);
  ASSERT_TRUE(more);
  EXPECT_EQ(device_->used_bytes(), 5 * kMebibyte);
  const auto refused = shared_->allocate(4 * kMebibyte);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(shared_->allocate(SIZE_MAX).error().code, ErrorCode::kResourceExhausted);
}

TEST_F(CudaSharedRowsTest, WhatIsKeptMakesRoomForOtherRows) {
  const auto space = std::make_shared<RowSpace>(device_, *stream_, shared_);
  ASSERT_TRUE(shared_->allocate(4 * kMebibyte));
  const auto rows = space->allocate(5 * kMebibyte);
  ASSERT_TRUE(rows);
  EXPECT_EQ(device_->used_bytes(), 5 * kMebibyte);
  EXPECT_EQ(space->allocate(4 * kMebibyte).error().code, ErrorCode::kResourceExhausted);
}

TEST_F(CudaSharedRowsTest, RecordingsTakeNoNoteOfIt) {
  const auto space = std::make_shared<RowSpace>(device_, *stream_, shared_);
  const uint64_t version = space->version();
  const auto block = shared_->allocate(100).value();
  EXPECT_TRUE(space->holds(block.get()));
  EXPECT_TRUE(space->holds(block.get() + 99));
  EXPECT_FALSE(space->holds(block.get() + 65'536));
  EXPECT_FALSE(space->holds(&version));
  EXPECT_EQ(space->version(), version);
}

TEST_F(CudaSharedRowsTest, GoesBackToTheDeviceWithTheLastWhoHasIt) {
  auto block = shared_->allocate(100).value();
  ASSERT_TRUE(shared_->allocate(kMebibyte));
  shared_ = nullptr;
  EXPECT_GT(device_->used_bytes(), kMebibyte);
  block = nullptr;
  EXPECT_EQ(device_->used_bytes(), 0u);
}

TEST_F(CudaSharedRowsTest, IsNotForTheHostToTouch) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto block = shared_->allocate(1).value();
  const volatile std::byte* const memory = block.get();
  EXPECT_DEATH(static_cast<void>(*memory), "");
}

TEST_F(CudaSharedRowsTest, SaysThatTheDeviceIsLost) {
  const auto block = shared_->allocate(4).value();
  std::array<std::byte, 4> word{};
  device_->lose();
  EXPECT_EQ(shared_->write(block.get(), word).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(shared_->read(word, block.get()).error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace pregate::compute::cuda
