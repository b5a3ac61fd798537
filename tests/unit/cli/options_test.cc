#include "cli/options.h"

#include <fstream>

#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

class ApiKeyTest : public testing::Test {
 protected:
  void write_key(const std::string& text) { std::ofstream(options_.api_key_file) << text; }

  HttpOptions options_{.api_key_file =
                           testing::TempDir() +
                           testing::UnitTest::GetInstance()->current_test_info()->name() + ".key"};
};

TEST_F(ApiKeyTest, IsTheFirstLineOfItsFile) {
  write_key("secret\r\nnot this\n");
  EXPECT_EQ(api_key_of(options_).value(), "secret");
  write_key("secret");
  EXPECT_EQ(api_key_of(options_).value(), "secret");
}

TEST_F(ApiKeyTest, MustNotBeEmptyInItsFile) {
  write_key("\nsecret\n");
  EXPECT_FALSE(api_key_of(options_));
}

TEST_F(ApiKeyTest, HasOneSourceOnly) {
  write_key("secret\n");
  options_.api_key = "other";
  EXPECT_FALSE(api_key_of(options_));
}

TEST_F(ApiKeyTest, NamesItsMissingFile) {
  const auto key = api_key_of({.api_key_file = "no/such.key"});
  ASSERT_FALSE(key);
  EXPECT_NE(key.error().message.find("no/such.key"), std::string::npos);
}

TEST_F(ApiKeyTest, MayBeAbsent) { EXPECT_EQ(api_key_of(HttpOptions{}).value(), ""); }

TEST(ThreadCount, ZeroMeansAllCores) {
  EXPECT_EQ(thread_count(3), 3U);
  EXPECT_GE(thread_count(0), 1U);
}

}  // namespace
}  // namespace pregate::cli
