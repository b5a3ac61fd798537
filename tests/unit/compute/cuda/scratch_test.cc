#include "compute/cuda/scratch.h"

#include <gtest/gtest.h>

#include "tests/support/fake_device.h"

namespace pregate::compute::cuda {
namespace {

TEST(Scratch, GrowsByAQuarterMoreThanIsAskedFor) {
  FakeDevice device;
  const auto stream = device.make_stream().value();
  DeviceScratch scratch(device, *stream);
  std::byte* const first = scratch.take(4000).value();
  EXPECT_EQ(scratch.take(5000).value(), first);
  EXPECT_EQ(device.used_bytes(), 5000u);
  ASSERT_TRUE(scratch.take(8000));
  EXPECT_EQ(device.used_bytes(), 10'000u);
}

TEST(Scratch, TakesWhatThereIsAndFailsOnlyBelowThat) {
  FakeDevice device(1000);
  const auto stream = device.make_stream().value();
  DeviceScratch scratch(device, *stream);
  ASSERT_TRUE(scratch.take(900));
  EXPECT_EQ(device.used_bytes(), 900u);
  const auto refused = scratch.take(1001);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(scratch.take(1000));
}

}  // namespace
}  // namespace pregate::compute::cuda
