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
  static constexpr size_t kBudget = 4 * kMebibyte;

  const std::shared_ptr<FakeDevice> device_ = std::make_shared<FakeDevice>(8 * kMebibyte);
  const std::unique_ptr<Stream> stream_ = device_->make_stream().value();
  std::shared_ptr<CudaSharedRows> shared_ = std::make_shared<CudaSharedRows>(
      Arena(device_, "cuda:0", kBudget), device_->make_stream().value());
};

TEST_F(CudaSharedRowsTest, TakesNothingUntilItIsWanted) { EXPECT_EQ(device_->used_bytes(), 0u); }

TEST_F(CudaSharedRowsTest, TakesAllAtOnceAndNothingLater) {
  shared_->reserve();
  EXPECT_EQ(device_->used_bytes(), kBudget);
  {
    const auto first = shared_->allocate(kMebibyte), second = shared_->allocate(3 * kMebibyte);
    EXPECT_TRUE(first && second);
    shared_->reserve();
  }
  EXPECT_TRUE(shared_->allocate(kBudget)) << "all of it was given back";
  EXPECT_EQ(device_->used_bytes(), kBudget);
}

TEST_F(CudaSharedRowsTest, TakesWhatTheDeviceHas) {
  const auto space = std::make_shared<RowSpace>(device_, *stream_, shared_);
  const auto rows = space->allocate(6 * kMebibyte);
  shared_->reserve();
  EXPECT_EQ(device_->used_bytes(), 6 * kMebibyte);
  EXPECT_TRUE(shared_->allocate(kMebibyte));
  EXPECT_EQ(shared_->allocate(3 * kMebibyte).error().code, ErrorCode::kResourceExhausted);
}

TEST_F(CudaSharedRowsTest, IsBounded) {
  const auto most = shared_->allocate(kBudget);
  ASSERT_TRUE(most);
  EXPECT_EQ(shared_->allocate(1).error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(shared_->allocate(SIZE_MAX).error().code, ErrorCode::kResourceExhausted);
}

TEST_F(CudaSharedRowsTest, RecordingsTakeNoNoteOfIt) {
  const auto space = std::make_shared<RowSpace>(device_, *stream_, shared_);
  const uint64_t version = space->version();
  const auto block = shared_->allocate(100).value();
  EXPECT_TRUE(space->holds(block.get()));
  EXPECT_TRUE(space->holds(block.get() + 99));
  EXPECT_FALSE(space->holds(block.get() + kBudget));
  EXPECT_FALSE(space->holds(&version));
  EXPECT_EQ(space->version(), version);
}

TEST_F(CudaSharedRowsTest, GoesBackToTheDeviceWithTheLastWhoHasIt) {
  auto block = shared_->allocate(100).value();
  ASSERT_TRUE(shared_->allocate(kMebibyte));
  shared_ = nullptr;
  EXPECT_EQ(device_->used_bytes(), kBudget);
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
