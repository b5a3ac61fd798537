#include "tests/conformance/compute/fixture.h"

#include <algorithm>
#include <cmath>

namespace pregate::compute {

std::string to_string(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return "f32";
    case WeightFormat::kBf16:
      return "bf16";
    case WeightFormat::kQ8:
      return "q8";
    case WeightFormat::kQ4:
      return "q4";
    case WeightFormat::kF8:
      return "f8";
  }
  return "unknown";
}

Subject::Subject(const std::string& name, size_t num_threads)
    : threads_(std::make_unique<ThreadPool>(num_threads)),
      backend_(test_support::make_backend(name, *threads_).value()) {}

Numbers Numbers::random(Random& random, size_t rows, size_t cols) {
  Numbers numbers(rows, cols);
  for (float& value : numbers.data) value = static_cast<float>(random.next_normal());
  return numbers;
}

SourceMatrix Numbers::source() const {
  return {reinterpret_cast<const std::byte*>(data.data()), DType::kF32, rows, cols};
}

Numbers Numbers::row(size_t r) const {
  Numbers one(1, cols);
  std::ranges::copy(view().row(r), one.data.begin());
  return one;
}

Encoded::Encoded(Backend& backend, const Numbers& x, WeightFormat encoded_format)
    : format(encoded_format),
      rows(x.rows),
      cols(x.cols),
      bytes(x.rows * encoded_row_bytes(encoded_format, x.cols)) {
  backend.encode(x.view(), format, bytes.data());
}

void expect_close(const Numbers& actual, const Numbers& expected, float tolerance) {
  ASSERT_EQ(actual.data.size(), expected.data.size());
  float largest = 0.0f;
  for (const float value : expected.data) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < expected.data.size(); ++i) {
    ASSERT_LE(std::fabs(actual.data[i] - expected.data[i]), tolerance * largest)
        << "row " << i / expected.cols << ", column " << i % expected.cols << ": " << actual.data[i]
        << " instead of " << expected.data[i];
  }
}

std::string instance_name(std::string name) {
  std::ranges::replace(name, '/', '_');
  std::ranges::replace(name, ':', '_');
  return name;
}

std::string backend_test_name(const ::testing::TestParamInfo<BackendTest::ParamType>& info) {
  return instance_name(info.param);
}

std::string format_test_name(const ::testing::TestParamInfo<FormatTest::ParamType>& info) {
  return instance_name(std::get<0>(info.param)) + "_" + to_string(std::get<1>(info.param));
}

std::vector<std::string> distinct_backends() {
  std::vector<std::string> names = test_support::backend_names();
  std::erase(names, test_support::kEmulatedHopper);
  return names;
}

std::vector<std::string> distinct_devices() {
  std::vector<std::string> names = distinct_backends();
  std::erase_if(names, [](const std::string& name) { return !name.starts_with("cuda"); });
  return names;
}

std::vector<FormatTest::ParamType> distinct_formats() {
  std::vector<FormatTest::ParamType> formats;
  for (const std::string& name : test_support::backend_names()) {
    for (const WeightFormat format : kFormats) {
      if (name == test_support::kEmulatedHopper && format != WeightFormat::kBf16) continue;
      formats.emplace_back(name, format);
    }
  }
  return formats;
}

}  // namespace pregate::compute
