// Files that are no tokenizer: each gives an error that names the field.
#include <gmock/gmock.h>

#include "model/tokenizer/regex.h"
#include "tests/unit/tokenizer/test_tokenizers.h"

namespace pregate::model {
namespace {

using testing::HasSubstr;

std::string error_of(std::string_view json, std::string_view config = "") {
  const auto tokenizer = JsonTokenizer::from_text(json, config);
  return tokenizer ? "no error" : tokenizer.error().message;
}

std::string error_with(std::string_view field, std::string_view value) {
  return error_of(small_json("", fmt::format(R"(, "{}": {})", field, value)));
}

std::string error_of_model(std::string_view model) {
  return error_of(fmt::format(R"({{"model": {}}})", model));
}

TEST(BadTokenizerTest, MissingAndBrokenFiles) {
  const auto missing = Tokenizer::load("/nonexistent");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/tokenizer.json"));
  EXPECT_THAT(error_of(""), HasSubstr("tokenizer.json: not valid JSON"));
  EXPECT_THAT(error_of("{\"model\": "), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of("[1, 2]"), HasSubstr("expected an object, found array"));
  EXPECT_THAT(error_of("{}"), HasSubstr("tokenizer.json: model: missing"));
  EXPECT_THAT(error_of(std::string(100, '[')), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(small_json("", ""), "{"), HasSubstr("tokenizer_config.json: not valid"));
  EXPECT_THAT(error_of(small_json("", ""), R"({"added_tokens_decoder": {"x": {}}})"),
              HasSubstr("added_tokens_decoder[\"x\"]: expected an id"));
}

TEST(BadTokenizerTest, Models) {
  EXPECT_THAT(error_of_model(R"({"type": "Unigram"})"),
              HasSubstr("model.type: model type 'Unigram' is not supported, expected BPE"));
  EXPECT_THAT(error_of_model(R"({"type": "WordPiece"})"), HasSubstr("'WordPiece'"));
  EXPECT_THAT(error_of_model("{}"), HasSubstr("model.vocab: missing"));
  EXPECT_THAT(error_of_model(R"({"vocab": []})"), HasSubstr("model.vocab: expected an object"));
  EXPECT_THAT(error_of_model(R"({"vocab": {"a": "0"}})"),
              HasSubstr("model.vocab[\"a\"]: expected a whole number, found string"));
  EXPECT_THAT(error_of_model(R"({"vocab": {"a": -1}})"), HasSubstr("expected a number from 0"));
  EXPECT_THAT(error_of_model(R"({"vocab": {"a": 99999999999999999999}})"), HasSubstr("vocab"));
  EXPECT_THAT(error_of_model(R"({"vocab": {"a": 4294967295}})"), HasSubstr("number from 0 to"));
  EXPECT_THAT(error_of_model(R"({"vocab": {"a": 1.5}})"), HasSubstr("expected a whole number"));
  EXPECT_THAT(error_of_model(R"({"vocab": {}, "merges": [], "dropout": 0.1})"),
              HasSubstr("model.dropout"));
  EXPECT_THAT(error_of_model(R"({"vocab": {}, "merges": [], "fuse_unk": 1})"),
              HasSubstr("model.fuse_unk: expected true or false"));
}

TEST(BadTokenizerTest, Merges) {
  const auto error_of_merges = [](std::string_view merges) {
    return error_of_model(fmt::format(R"({{"vocab": {{"a": 0, "b": 1}}, "merges": {}}})", merges));
  };
  EXPECT_THAT(error_of_model(R"({"vocab": {}})"), HasSubstr("model.merges: missing"));
  EXPECT_THAT(error_of_merges("{}"), HasSubstr("model.merges: expected an array"));
  EXPECT_THAT(error_of_merges("[1]"), HasSubstr("model.merges[0]: expected two tokens"));
  EXPECT_THAT(error_of_merges(R"([["a"]])"), HasSubstr("expected two tokens"));
  EXPECT_THAT(error_of_merges(R"(["a b c"])"), HasSubstr("one space between, found 'a b c'"));
  EXPECT_THAT(error_of_merges(R"(["a x"])"), HasSubstr("token 'x' is not in the vocabulary"));
  EXPECT_THAT(error_of_merges(R"(["x a"])"), HasSubstr("token 'x' is not in the vocabulary"));
  EXPECT_THAT(error_of_merges(R"(["a b"])"), HasSubstr("token 'ab' is not in the vocabulary"));
}

TEST(BadTokenizerTest, UnsupportedTypesAreNamed) {
  EXPECT_THAT(error_with("normalizer", R"({"type": "Precompiled"})"),
              HasSubstr("normalizer.type: normalizer type 'Precompiled' is not supported"));
  EXPECT_THAT(error_with("pre_tokenizer", R"({"type": "UnicodeScripts"})"),
              HasSubstr("pre_tokenizer.type: pre-tokenizer type 'UnicodeScripts'"));
  EXPECT_THAT(error_with("decoder", R"({"type": "CTC"})"), HasSubstr("decoder.type: decoder type"));
  EXPECT_THAT(error_with("post_processor", R"({"type": "X"})"), HasSubstr("post_processor.type"));
  EXPECT_THAT(error_with("normalizer", R"({"type": "Sequence", "normalizers": [{"type": "X"}]})"),
              HasSubstr("normalizer.normalizers[0].type"));
  EXPECT_THAT(error_with("decoder", "{}"), HasSubstr("decoder.type: missing"));
  EXPECT_THAT(error_with("decoder", "3"), HasSubstr("decoder: expected an object, found int64"));
}

TEST(BadTokenizerTest, Parts) {
  EXPECT_THAT(error_with("pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "(a"}})"),
              HasSubstr("pre_tokenizer.pattern: cannot compile the regular expression '(a'"));
  EXPECT_THAT(error_with("pre_tokenizer",
                         R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "No"})"),
              HasSubstr("pre_tokenizer.behavior: unknown behavior 'No'"));
  EXPECT_THAT(error_with("pre_tokenizer", R"({"type": "Metaspace", "replacement": "ab"})"),
              HasSubstr("pre_tokenizer.replacement: expected one character"));
  EXPECT_THAT(error_with("decoder", R"({"type": "Strip", "content": "", "start": 0, "stop": 0})"),
              HasSubstr("decoder.content: expected one character"));
  EXPECT_THAT(error_with("decoder", R"({"type": "Strip", "content": "a", "start": -1, "stop": 0})"),
              HasSubstr("decoder.start: expected a number"));
  EXPECT_THAT(error_with("added_tokens", R"([{"id": 3}])"),
              HasSubstr("added_tokens[0].content: missing"));
  EXPECT_THAT(error_with("added_tokens", R"([{"content": "a", "special": "yes"}])"),
              HasSubstr("added_tokens[0].special: expected true or false"));
}

TEST(BadTokenizerTest, Templates) {
  EXPECT_THAT(
      error_with("post_processor",
                 R"({"type": "TemplateProcessing", "special_tokens": {},)"
                 R"( "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}]})"),
      HasSubstr("single[0].SpecialToken.id: '<x>' is not in post_processor.special_tokens"));
  EXPECT_THAT(error_with("post_processor",
                         R"({"type": "TemplateProcessing", "special_tokens": {},)"
                         R"( "single": [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}]})"),
              HasSubstr("expected the text only once"));
  EXPECT_THAT(error_with("post_processor", R"({"type": "BertProcessing", "cls": ["a"]})"),
              HasSubstr("post_processor.cls: expected a token and its id"));
}

TEST(BadRegexTest, EachIsRefusedAndNamed) {
  for (const char* pattern :
       {"(",    ")",   "[",      "[a",   "[[a]",  "[[:alpha", "[]",
        "[^]",  "a\\", "\\p",    "\\pL", "\\p{",  "\\Qa\\E",  "\\p{NoSuchThing}",
        "(?z)", "(?<", "(*UTF)", "(?#",  "[&&a]", "*",        "(?P<x>a)",
        "\\C"}) {
    const Result<Regex> regex = Regex::compile(pattern);
    ASSERT_FALSE(regex) << pattern;
    EXPECT_THAT(regex.error().message, HasSubstr(pattern));
  }
}

TEST(RegexTest, BacktrackingIsBounded) {
  const Regex regex = Regex::compile("(?:a+)+b").value();
  std::vector<ByteRange> matches;
  regex.find_all(std::string(200, 'a'), matches);
  EXPECT_TRUE(matches.empty());
}

}  // namespace
}  // namespace pregate::model
