#include "coordinator/api/auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scratch_directory.h"

namespace pregate::coordinator {
namespace {

TEST(ApiKeys, WithoutKeysEverybodyMayEnter) { EXPECT_TRUE(ApiKeys({}).admits("")); }

TEST(ApiKeys, OnlyABearerOfAKeyMayEnter) {
  const ApiKeys keys({"first", "second-key"});
  EXPECT_TRUE(keys.admits("Bearer first"));
  EXPECT_TRUE(keys.admits("bearer  second-key"));
  for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer firs", "Bearer firstt", "Bearer fIrst",
                            "Bearer firstfirst", "Basic first", "first", "Bearerxfirst"}) {
    EXPECT_FALSE(keys.admits(wrong)) << wrong;
  }
}

class KeyFile : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& text) {
    directory_.write("keys", text);
    return directory_.path() / "keys";
  }

  const ScratchDirectory directory_;
};

TEST_F(KeyFile, HasOneKeyPerLine) {
  const auto keys = read_api_keys(write("# team a\nalpha\n\n  beta \r\n"));
  ASSERT_TRUE(keys.has_value());
  EXPECT_THAT(*keys, ::testing::ElementsAre("alpha", "beta"));
}

TEST_F(KeyFile, WithoutKeysIsAnError) {
  EXPECT_FALSE(read_api_keys(write("# nothing\n\n")).has_value());
  EXPECT_FALSE(read_api_keys("/nonexistent/keys").has_value());
}

}  // namespace
}  // namespace pregate::coordinator
