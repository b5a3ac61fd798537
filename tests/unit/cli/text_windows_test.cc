#include "cli/text_windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scratch_directory.h"

namespace pregate::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// A token per byte.
class ByteTokenizer final : public model::Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text, bool) const override {
    return {text.begin(), text.end()};
  }
  std::string decode(std::span<const TokenId>, bool) const override { return {}; }
  std::unique_ptr<model::DecodeSession> start_decoding(bool) const override { return nullptr; }
  size_t vocab_size() const override { return 128; }
  std::optional<TokenId> token_to_id(std::string_view) const override { return std::nullopt; }
  std::string_view id_to_token(TokenId) const override { return {}; }
  bool is_special(TokenId) const override { return false; }
};

class TextWindowsTest : public testing::Test {
 protected:
  Result<Text> read(const std::string& content, TextOptions options) {
    directory_.write("sample.txt", content);
    return read_text(directory_.path() / "sample.txt", ByteTokenizer(), 0, options);
  }
  ScratchDirectory directory_;
};

TEST_F(TextWindowsTest, DocumentsAreCutIntoWindowsThatBeginWithTheStartToken) {
  const auto text = read("abcde\fab\f", {.files = {}, .window_tokens = 3});
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(text->name, "sample");
  EXPECT_EQ(text->num_documents, 2u);
  EXPECT_EQ(text->num_bytes, 7u);
  EXPECT_EQ(text->num_tokens, 7u);
  EXPECT_THAT(text->windows, ElementsAre(ElementsAre(0, 'a', 'b', 'c'), ElementsAre(0, 'd', 'e'),
                                         ElementsAre(0, 'a', 'b')));
}

TEST_F(TextWindowsTest, MaxTokensEndsAfterTheDocumentThatReachesIt) {
  const auto text = read("abcde\fab\fab", {.files = {}, .window_tokens = 8, .max_tokens = 6});
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(text->num_documents, 2u);
}

TEST_F(TextWindowsTest, AnEmptyOrMissingTextIsNamed) {
  const auto empty = read("\f\f", {});
  ASSERT_FALSE(empty);
  EXPECT_THAT(empty.error().message, HasSubstr("sample.txt: no text in it"));
  EXPECT_FALSE(read_text(directory_.path() / "none.txt", ByteTokenizer(), 0, {}));
}

TEST(StartToken, IsTheBeginningOfTextOrElseTheEndOfOne) {
  EXPECT_EQ(start_token({.bos_token = 3, .eos_tokens = {5}}), 3);
  EXPECT_EQ(start_token({.eos_tokens = {5, 6}}), 5);
}

}  // namespace
}  // namespace pregate::cli
