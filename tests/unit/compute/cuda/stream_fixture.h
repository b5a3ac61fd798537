// A stream of each device that is the processor itself, and what lies in its memory.
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "compute/cuda/device.h"

namespace pregate::compute::cuda {

/// The parameter is a device's name.
class StreamTest : public ::testing::TestWithParam<std::string> {
 protected:
  StreamTest();
  ~StreamTest() override;

  Stream& stream() { return *stream_; }
  void synchronize() { ASSERT_TRUE(stream_->synchronize()); }

  /// Until the test ends.
  std::byte* allocate(size_t bytes);
  std::byte* allocate_pinned(size_t bytes);
  template <typename T>
  T* upload(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::byte* const memory = allocate(values.size() * sizeof(T));
    stream_->upload(memory, values.data(), values.size() * sizeof(T));
    synchronize();
    return reinterpret_cast<T*>(memory);
  }
  template <typename T>
  std::vector<T> download(const T* from, size_t count) {
    std::vector<T> values(count);
    stream_->download(values.data(), from, count * sizeof(T));
    synchronize();
    return values;
  }

  std::vector<float> random_numbers(size_t count);

  Random random_{1};

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<std::byte*> allocated_, pinned_;
};

/// Those there are in this build.
std::vector<std::string> stream_devices();

inline std::string stream_test_name(const ::testing::TestParamInfo<std::string>& info) {
  return info.param;
}

/// Rows in a buffer that begin at number `offset` of it.
struct RowShape {
  uint32_t rows = 0, cols = 0, stride = 0, offset = 0;

  size_t size() const { return offset + size_t(rows) * stride; }
  size_t at(size_t row, size_t col = 0) const { return offset + row * stride + col; }
};

/// All bits alike, those of NaNs and zeros too.
void expect_same_bits(const std::vector<float>& actual, const std::vector<float>& expected);
/// Relative to each number. What is expected may be a NaN: of numbers that are not to be touched.
void expect_near(const std::vector<float>& actual, const std::vector<float>& expected,
                 float tolerance);

}  // namespace pregate::compute::cuda
