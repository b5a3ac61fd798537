// What the devices that are the processor itself keep from the host, as a real one would.
#include <algorithm>
#include <numeric>

#include "tests/support/fake_device.h"
#include "tests/unit/compute/cuda/stream_fixture.h"

namespace pregate::compute::cuda {
namespace {

class DeviceMemory : public StreamTest {};

INSTANTIATE_TEST_SUITE_P(Devices, DeviceMemory, ::testing::ValuesIn(stream_devices()),
                         stream_test_name);

TEST_P(DeviceMemory, IsNotForTheHostToTouch) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  volatile std::byte* const fresh = allocate(1);
  EXPECT_DEATH(static_cast<void>(*fresh), "");
  volatile float* const number = upload(std::vector{1.5f});
  EXPECT_DEATH(static_cast<void>(*number), "");
  EXPECT_DEATH(*number = 2.5f, "");
  EXPECT_EQ(download(const_cast<const float*>(number), 1).front(), 1.5f);
}

/// More uploads than go together, many of them to where others went.
TEST_P(DeviceMemory, HasWhatWasUploadedLast) {
  constexpr size_t kCount = 4096, kUploads = 40, kUnit = 4;
  std::vector<float> expected(kCount);
  float* const memory = upload(expected);
  auto* from = reinterpret_cast<float*>(allocate_pinned(kUploads * kCount * sizeof(float)));
  for (size_t i = 0; i < kUploads; ++i, from += kCount) {
    const size_t first = kUnit * random_.next_below(kCount / kUnit);
    const size_t count = kUnit * (1 + random_.next_below((kCount - first) / kUnit));
    std::iota(from, from + count, float(i * kCount));
    std::copy_n(from, count, expected.begin() + ptrdiff_t(first));
    stream().upload_pinned(memory + first, from, count * sizeof(float));
  }
  EXPECT_EQ(download(memory, kCount), expected);
}

/// What a table says where it is, a processor could read anywhere.
TEST(FakeDeviceMemory, IsAllThatIsSummedUp) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto sum_up = [](bool of_host) {
    FakeDevice device;
    const auto stream = device.make_stream().value();
    std::byte* const memory = device.allocate(4096).value();
    const float one = 1.0f;
    const auto* const there = reinterpret_cast<const float*>(memory);
    const float* const addend = of_host ? &one : there;
    const uint32_t end = 1;
    stream->upload(memory, &one, sizeof(one));
    stream->upload(memory + 64, &addend, sizeof(addend));
    stream->upload(memory + 128, &end, sizeof(end));
    stream->sum_rows({.out = reinterpret_cast<float*>(memory + 192),
                      .stride = 1,
                      .addends = reinterpret_cast<const float* const*>(memory + 64),
                      .ends = reinterpret_cast<const uint32_t*>(memory + 128),
                      .cols = 1,
                      .num_rows = 1});
    float sum = 0.0f;
    stream->download(&sum, memory + 192, sizeof(sum));
    EXPECT_TRUE(stream->synchronize());
    device.free(memory);
    return sum;
  };
  EXPECT_EQ(sum_up(false), 1.0f);
  EXPECT_DEATH(sum_up(true), "");
}

TEST_P(DeviceMemory, IsWrittenWhenTheStreamIsWaitedFor) {
  std::vector<float> numbers = {1.0f, 2.0f};
  auto* const memory = reinterpret_cast<float*>(allocate(sizeof(float) * numbers.size()));
  stream().upload(memory, numbers.data(), sizeof(float) * numbers.size());
  numbers[1] = 3.0f;  // too early: a device may or may not see it, and these do
  EXPECT_EQ(download(memory, 2), numbers);
}

TEST_P(DeviceMemory, WhatIsRecordedIsDoneWhenItIsReplayed) {
  float* const sum = upload(std::vector{0.0f});
  const float* const one = upload(std::vector{1.0f});
  const auto add = [&] {
    stream().add({.y = sum, .y_stride = 1, .x = one, .x_stride = 1, .cols = 1, .num_rows = 1});
  };
  add();  // before it, and not of it
  const auto recording = stream().record(add);
  ASSERT_TRUE(recording);
  EXPECT_EQ(download(sum, 1).front(), 1.0f);
  stream().replay(**recording);
  stream().replay(**recording);
  EXPECT_EQ(download(sum, 1).front(), 3.0f);
}

}  // namespace
}  // namespace pregate::compute::cuda
