// What the tests of all operations share: the back ends of this machine, random input, comparison.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "compute/backend.h"
#include "tests/support/backends.h"

namespace pregate::compute {

inline constexpr WeightFormat kFormats[] = {WeightFormat::kF32, WeightFormat::kBf16,
                                            WeightFormat::kQ8, WeightFormat::kQ4,
                                            WeightFormat::kF8};

std::string to_string(WeightFormat format);

/// A back end with a team of its own.
class Subject {
 public:
  explicit Subject(const std::string& name, size_t num_threads = 2);
  Backend& operator*() { return *backend_; }
  Backend* operator->() { return backend_.get(); }

 private:
  std::unique_ptr<ThreadPool> threads_;
  std::unique_ptr<Backend> backend_;
};

/// A matrix that owns its numbers.
struct Numbers {
  size_t rows = 0, cols = 0;
  std::vector<float> data;

  Numbers(size_t r, size_t c) : rows(r), cols(c), data(r * c) {}
  static Numbers random(Random& random, size_t rows, size_t cols);

  Matrix<const float> view() const { return {data.data(), rows, cols}; }
  Matrix<float> view() { return {data.data(), rows, cols}; }
  SourceMatrix source() const;
  Numbers row(size_t r) const;
  bool operator==(const Numbers&) const = default;  // equal bits, as there is no NaN and no -0
};

/// Rows in the input format of a back end, owned.
struct Encoded {
  Encoded(Backend& backend, const Numbers& x, WeightFormat format);
  EncodedRows view() const { return {format, rows, cols, bytes.data()}; }

  WeightFormat format;
  size_t rows, cols;
  std::vector<std::byte> bytes;
};

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Each number within `tolerance` times the largest magnitude expected.
void expect_close(const Numbers& actual, const Numbers& expected, float tolerance);

class BackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  Subject subject_{GetParam()};
  Subject reference_{"reference"};
  Random random_{20};
};

class FormatTest : public ::testing::TestWithParam<std::tuple<std::string, WeightFormat>> {
 protected:
  std::string name() const { return std::get<0>(GetParam()); }
  WeightFormat format() const { return std::get<1>(GetParam()); }

  Subject subject_{name()};
  Subject reference_{"reference"};
  Random random_{20};
};

/// Names of test instances: letters, digits and underscores only.
std::string instance_name(std::string name);
std::string backend_test_name(const ::testing::TestParamInfo<BackendTest::ParamType>& info);
std::string format_test_name(const ::testing::TestParamInfo<FormatTest::ParamType>& info);

/// All but the emulated device of compute capability 9.0: it is slow, and of its kernels only that
/// for products in bf16 is not the other emulated device's too.
std::vector<std::string> distinct_backends();
/// Those in each format, and that device in bf16.
std::vector<FormatTest::ParamType> distinct_formats();

/// Whose row memory is not the host's.
std::vector<std::string> distinct_devices();

inline auto all_devices() { return ::testing::ValuesIn(distinct_devices()); }
inline auto all_backends() { return ::testing::ValuesIn(distinct_backends()); }
inline auto all_formats() { return ::testing::ValuesIn(distinct_formats()); }

}  // namespace pregate::compute
