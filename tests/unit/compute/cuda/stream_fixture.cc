#include "tests/unit/compute/cuda/stream_fixture.h"

#include <bit>
#include <cmath>

#include "tests/support/emulated_cuda/device.h"
#include "tests/support/fake_device.h"

namespace pregate::compute::cuda {
namespace {

std::unique_ptr<Device> open_device(const std::string& name) {
  if (name == "fake") return std::make_unique<FakeDevice>();
  return open_emulated_device(name == "emulated_9" ? 9 : 8).value();
}

}  // namespace

std::vector<std::string> stream_devices() {
  if (open_emulated_device(8)) return {"fake", "emulated", "emulated_9"};
  return {"fake"};
}

StreamTest::StreamTest()
    : device_(open_device(GetParam())), stream_(device_->make_stream().value()) {}

StreamTest::~StreamTest() {
  stream_.reset();
  for (std::byte* memory : allocated_) device_->free(memory);
  for (std::byte* memory : pinned_) device_->free_pinned(memory);
}

std::byte* StreamTest::allocate(size_t bytes) {
  return allocated_.emplace_back(device_->allocate(bytes).value());
}

std::byte* StreamTest::allocate_pinned(size_t bytes) {
  return pinned_.emplace_back(device_->allocate_pinned(bytes).value());
}

std::vector<float> StreamTest::random_numbers(size_t count) {
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(random_.next_normal());
  return numbers;
}

void expect_same_bits(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
        << "number " << i << ": " << actual[i] << " instead of " << expected[i];
  }
}

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected,
                 float tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(actual[i])) continue;
    ASSERT_NEAR(actual[i], expected[i], tolerance * std::fabs(expected[i])) << "number " << i;
  }
}

}  // namespace pregate::compute::cuda
