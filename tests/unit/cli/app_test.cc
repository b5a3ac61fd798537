// The program as a user meets it, without a server.

#include "cli/app.h"

#include <filesystem>

#include <gmock/gmock.h>

#include "tests/unit/cli/command_line.h"

namespace pregate::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class AppTest : public CommandLineTest {
 protected:
  void SetUp() override { std::filesystem::remove_all(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  const std::string folder_ =
      testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(AppTest, MakesAModelAndInspectsIt) {
  ASSERT_EQ(run({"make-model", "--out", folder_, "--family", "qwen3_moe", "--layers", "3",
                 "--experts", "5", "--top-k", "2"}),
            0)
      << errors_;
  EXPECT_THAT(output_, HasSubstr("untrained"));
  ASSERT_EQ(run({"inspect", folder_, "-n", "2"}), 0) << errors_;
  EXPECT_THAT(output_, AllOf(HasSubstr("Qwen3MoeForCausalLM"), HasSubstr("layers      3"),
                             HasSubstr("experts     5 per layer, 2 per token"),
                             HasSubstr("for 8 of 15 experts"), HasSubstr("for 7 of 15 experts")));
}

TEST_F(AppTest, DoesNotOverwriteAModel) {
  ASSERT_EQ(run({"make-model", "--out", folder_}), 0) << errors_;
  EXPECT_EQ(run({"make-model", "--out", folder_}), 1);
  EXPECT_THAT(errors_, HasSubstr(folder_));
}

TEST_F(AppTest, InspectNamesWhatIsMissing) {
  EXPECT_EQ(run({"inspect", folder_}), 1);
  EXPECT_THAT(errors_, HasSubstr(folder_));
  EXPECT_EQ(run({"inspect"}), 2);
}

TEST_F(AppTest, MakeModelRefusesUnknownShapes) {
  EXPECT_EQ(run({"make-model", "--out", folder_, "--like", "tinny"}), 2);
  EXPECT_THAT(errors_, HasSubstr("--like: expected one of"));
  EXPECT_EQ(run({"make-model", "--out", folder_, "--experts", "4", "--top-k", "9"}), 1);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/config.json"));
}

}  // namespace
}  // namespace pregate::cli
