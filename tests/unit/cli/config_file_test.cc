#include "cli/config_file.h"

#include <fstream>

#include <gtest/gtest.h>

#include "tests/support/scratch_directory.h"

namespace pregate::cli {
namespace {

class ConfigFileTest : public testing::Test {
 protected:
  Result<std::vector<ConfigEntry>> read(const std::string& text) {
    std::ofstream(path_) << text;
    return read_config_file(path_);
  }
  std::string error_of(const std::string& text) {
    const auto entries = read(text);
    return entries ? "none" : entries.error().message;
  }
  std::string in_line(int line, const std::string& message) {
    return fmt::format("{}:{}: {}", path_.string(), line, message);
  }

  const ScratchDirectory directory_;
  const std::filesystem::path path_ = directory_.path() / "config.toml";
};

TEST_F(ConfigFileTest, ReadsEveryTypeAndSection) {
  const auto entries = read(
      "model = \"m\"\n\n[serve]\nmax_num_seqs = 4\nreproducible = true\n"
      "drain-timeout = 1.5\n");
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 4U);
  EXPECT_EQ((*entries)[0].section, "");
  EXPECT_EQ((*entries)[0].text, "m");
  EXPECT_EQ((*entries)[1].section, "serve");
  EXPECT_EQ((*entries)[1].key, "max-num-seqs");
  EXPECT_EQ((*entries)[1].line, 4U);
  EXPECT_EQ((*entries)[1].type, ConfigType::kInteger);
  EXPECT_EQ((*entries)[2].type, ConfigType::kBoolean);
  EXPECT_EQ((*entries)[2].text, "true");
  EXPECT_EQ((*entries)[3].text, "1.5");
}

TEST_F(ConfigFileTest, NamesTheLineOfBadSyntax) {
  EXPECT_TRUE(error_of("a = 1\nb = = 2\n").starts_with(in_line(2, "not valid TOML: ")));
  EXPECT_TRUE(error_of("a = \"\xff\"\n").starts_with(in_line(1, "not valid TOML: ")));
}

TEST_F(ConfigFileTest, RefusesListsAndDeepTables) {
  EXPECT_EQ(error_of("\nport = [1, 2]\n"), in_line(2, "port: expected one value"));
  EXPECT_EQ(error_of("[serve]\n[serve.http]\nport = 1\n"), in_line(2, "http: expected one value"));
  EXPECT_EQ(error_of("day = 2024-01-01\n"), in_line(1, "day: expected one value"));
}

TEST_F(ConfigFileTest, RefusesOneKeyInTwoSpellings) {
  EXPECT_EQ(error_of("max_queue = 1\nmax-queue = 2\n"),
            in_line(2, "max-queue: given twice, first in line 1"));
}

TEST_F(ConfigFileTest, NamesAMissingFile) {
  const auto entries = read_config_file("no/such/file.toml");
  ASSERT_FALSE(entries);
  EXPECT_EQ(entries.error().code, ErrorCode::kNotFound);
  EXPECT_NE(entries.error().message.find("no/such/file.toml"), std::string::npos);
}

}  // namespace
}  // namespace pregate::cli
