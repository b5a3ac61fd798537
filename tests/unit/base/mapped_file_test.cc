#include "base/mapped_file.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>

namespace pregate {
namespace {

TEST(MappedFile, ReadsWhatWasWritten) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "mapped_file_test";
  std::ofstream(path) << "hello";
  EXPECT_EQ(read_file(path), "hello");
  const auto small = read_file(path, 4);
  ASSERT_FALSE(small.has_value());
  EXPECT_NE(small.error().message.find("expected at most 4"), std::string::npos);
  std::filesystem::remove(path);
}

TEST(MappedFile, AnEmptyFileIsNoError) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "mapped_file_empty";
  std::ofstream(path).close();
  EXPECT_EQ(read_file(path), "");
  std::filesystem::remove(path);
}

TEST(MappedFile, ErrorsNameThePath) {
  const auto missing = MappedFile::open("/no/such/file");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("/no/such/file"), std::string::npos);
  EXPECT_EQ(MappedFile::open("/tmp").error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace pregate
