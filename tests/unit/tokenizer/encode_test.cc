// Each part of encoding by itself; the whole is held to the reference in reference_test.cc.
#include <gmock/gmock.h>

#include "model/tokenizer/bpe.h"
#include "model/tokenizer/pieces.h"
#include "model/tokenizer/split.h"
#include "tests/unit/tokenizer/test_tokenizers.h"

namespace pregate::model {
namespace {

using testing::ElementsAre;

std::vector<TokenId> encode(std::string_view model_fields, std::string_view other_fields,
                            std::string_view text) {
  return small_tokenizer(model_fields, other_fields)->encode(text, true);
}

TEST(BpeTest, MergesByRankFromTheLeft) {
  EXPECT_THAT(encode("", "", "abcabd"), ElementsAre(7, 6, 4));
  EXPECT_THAT(encode("", "", ""), ElementsAre());
}

TEST(BpeTest, UnknownCharacters) {
  EXPECT_THAT(encode("", "", "axb"), ElementsAre(6));  // no unk_token: as if it were not there
  EXPECT_THAT(encode(R"(, "unk_token": "<unk>")", "", "axyb"), ElementsAre(1, 0, 0, 2));
  EXPECT_THAT(encode(R"(, "unk_token": "<unk>", "fuse_unk": true)", "", "axyb"),
              ElementsAre(1, 0, 2));
}

TEST(BpeTest, FallsBackToBytesOnlyIfAllExist) {
  constexpr std::string_view kFields = R"(, "unk_token": "<unk>", "byte_fallback": true)";
  EXPECT_THAT(encode(kFields, "", "é"), ElementsAre(11, 12));
  EXPECT_THAT(encode(kFields, "", "è"), ElementsAre(0));
}

TEST(BpeTest, IgnoreMergesTakesAWholeWordOfTheVocabulary) {
  constexpr std::string_view kJson =
      R"({"model": {"vocab": {"a": 0, "b": 1, "c": 2, "bc": 3, "abc": 4}, "merges": ["b c"])";
  auto merged = JsonTokenizer::from_text(fmt::format("{}}}}}", kJson), "").value();
  auto whole =
      JsonTokenizer::from_text(fmt::format("{}, \"ignore_merges\": true}}}}", kJson), "").value();
  EXPECT_THAT(merged->encode("abc", true), ElementsAre(0, 3));
  EXPECT_THAT(whole->encode("abc", true), ElementsAre(4));
}

TEST(BpeTest, AMillionCharactersInOneWord) {
  std::string word;
  for (int i = 0; i < 250'000; ++i) word += "abcd";
  const std::vector<TokenId> ids = encode("", "", word);
  ASSERT_EQ(ids.size(), 500'000U);
  EXPECT_EQ(ids[0], 7);
  EXPECT_EQ(ids[499'999], 4);
}

TEST(NormalizerTest, EachType) {
  const auto text_of = [](std::string_view normalizer, std::string_view text) {
    const auto document = boost::json::value{{"type", normalizer}};
    NormalizedText input{std::string(text), true};
    make_normalizer(JsonField(document, "normalizer")).value()->apply(input);
    return input.text;
  };
  EXPECT_EQ(text_of("NFC", "e\u0301"), "é");
  EXPECT_EQ(text_of("NFD", "é"), "e\u0301");
  EXPECT_EQ(text_of("NFKC", "ﬁ²"), "fi2");
  EXPECT_EQ(text_of("NFKD", "é½"), "e\u03011\u20442");
  EXPECT_EQ(text_of("Lowercase", "ÀΣİ"), "àσi\u0307");
  EXPECT_EQ(text_of("StripAccents", "e\u0301a"), "ea");
  EXPECT_EQ(text_of("Strip", " \u3000a b\n"), "a b");
  EXPECT_EQ(text_of("Nmt", "a\x01\u200B b"), "a  b");
  EXPECT_EQ(text_of("ByteLevel", " é"), "Ġ\u00C3\u00A9");
}

TEST(SplitTest, Behaviors) {
  // "a--b-": the spans a, -, -, b, -.
  const std::vector<ByteRange> matches = {{1, 2}, {2, 3}, {4, 5}};
  const auto parts_of = [&](SplitBehavior behavior) {
    std::vector<Span> spans;
    spans_from_matches(matches, 5, false, spans);
    std::vector<ByteRange> parts;
    apply_behavior(spans, behavior, parts);
    std::string out;
    for (const ByteRange part : parts) {
      out += std::string("a--b-").substr(part.begin, part.end - part.begin);
      out += '|';
    }
    return out;
  };
  EXPECT_EQ(parts_of(SplitBehavior::kRemoved), "a|b|");
  EXPECT_EQ(parts_of(SplitBehavior::kIsolated), "a|-|-|b|-|");
  EXPECT_EQ(parts_of(SplitBehavior::kMergedWithPrevious), "a-|-|b-|");
  EXPECT_EQ(parts_of(SplitBehavior::kMergedWithNext), "a|-|-b|-|");
  EXPECT_EQ(parts_of(SplitBehavior::kContiguous), "a|--|b|-|");
}

TEST(PreTokenizerTest, MetaspaceFirstLooksAtTheStartOfTheInput) {
  constexpr std::string_view kFirst =
      R"(, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},)"
      R"( "added_tokens": [{"id": 14, "content": "<s>", "special": true}])";
  EXPECT_THAT(encode("", kFirst, "a<s>a a"), ElementsAre(9, 14, 1, 9));
}

TEST(AddedTokensTest, StripAndSingleWord) {
  constexpr std::string_view kTokens =
      R"(, "added_tokens": [{"content": "L", "lstrip": true, "normalized": false},)"
      R"( {"content": "R", "rstrip": true, "normalized": false},)"
      R"( {"content": "W", "single_word": true, "normalized": false}])";
  EXPECT_THAT(encode("", kTokens, "a L a"), ElementsAre(1, 15, 10, 1));
  EXPECT_THAT(encode("", kTokens, "a R a"), ElementsAre(1, 10, 16, 1));
  EXPECT_THAT(encode("", kTokens, "W aW"), ElementsAre(17, 10, 1));
}

TEST(AddedTokensTest, NormalizedOnesAreFoundInTheNormalizedText) {
  constexpr std::string_view kTokens =
      R"(, "normalizer": {"type": "Lowercase"}, "added_tokens": [)"
      R"({"content": "XY", "normalized": true}, {"content": "Z", "normalized": false}])";
  EXPECT_THAT(encode("", kTokens, "aXyA"), ElementsAre(1, 15, 1));
  EXPECT_THAT(encode("", kTokens, "azZ"), ElementsAre(1, 16));
}

TEST(AddedTokensTest, TokenizerConfigAddsAndChanges) {
  constexpr std::string_view kConfig =
      R"({"added_tokens_decoder": {"16": {"content": "Q", "special": true},)"
      R"( "15": {"content": "P", "special": true, "lstrip": true}}})";
  const auto tokenizer = JsonTokenizer::from_text(small_json("", ""), kConfig).value();
  EXPECT_THAT(tokenizer->encode("a PQ", true), ElementsAre(1, 15, 16));
  EXPECT_TRUE(tokenizer->is_special(15));
  EXPECT_EQ(tokenizer->vocab_size(), 17U);
}

TEST(PostProcessorTest, TemplateOnlyWhenAsked) {
  const auto tokenizer = small_tokenizer(
      "", R"(, "post_processor": {"type": "TemplateProcessing", "single": [)"
          R"({"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A"}}],)"
          R"( "special_tokens": {"<s>": {"id": "<s>", "ids": [14], "tokens": ["<s>"]}}})");
  EXPECT_THAT(tokenizer->encode("d", true), ElementsAre(14, 4));
  EXPECT_THAT(tokenizer->encode("d", false), ElementsAre(4));
}

TEST(TokenizerTest, InvalidUtf8BecomesReplacementCharacters) {
  const auto tokenizer = small_tokenizer(R"(, "unk_token": "<unk>")", "");
  EXPECT_EQ(tokenizer->encode("a\xFF\xE2\x82z", true), tokenizer->encode("a\uFFFD\uFFFDz", true));
}

TEST(TokenizerTest, LooksUpTokens) {
  const auto tokenizer = small_tokenizer("", "");
  EXPECT_EQ(tokenizer->vocab_size(), 15U);
  EXPECT_EQ(tokenizer->token_to_id("abc"), 7);
  EXPECT_EQ(tokenizer->token_to_id("abcd"), std::nullopt);
  EXPECT_EQ(tokenizer->id_to_token(7), "abc");
  EXPECT_EQ(tokenizer->id_to_token(-1), "");
  EXPECT_EQ(tokenizer->id_to_token(1000), "");
  EXPECT_FALSE(tokenizer->is_special(7));
}

}  // namespace
}  // namespace pregate::model
