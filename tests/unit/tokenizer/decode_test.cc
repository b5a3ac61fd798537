#include <boost/json/parse.hpp>
#include <gmock/gmock.h>

#include "model/tokenizer/decoder.h"
#include "tests/unit/tokenizer/test_tokenizers.h"

namespace pregate::model {
namespace {

using testing::ElementsAre;

/// What each token makes certain, and at last what the end does.
std::vector<std::string> pieces_of(std::string_view decoder_json,
                                   const std::vector<std::string>& tokens) {
  const boost::json::value document = boost::json::parse(decoder_json);
  const Decoder decoder = Decoder::from_json(JsonField(document, "decoder")).value();
  DecodeChain chain = decoder.start();
  std::vector<std::string> pieces;
  for (const std::string& token : tokens) chain.push(token, pieces.emplace_back());
  chain.finish(pieces.emplace_back());
  return pieces;
}

TEST(DecoderTest, ByteLevelHoldsBackHalfCharacters) {
  EXPECT_THAT(pieces_of(R"({"type": "ByteLevel"})", {"Ġa", "\u00C3", "\u00A9", "ðŁ", "x"}),
              ElementsAre(" a", "", "é", "", "\uFFFDx", ""));
  EXPECT_THAT(pieces_of(R"({"type": "ByteLevel"})", {"你", "\u00C3"}),
              ElementsAre("你", "", "\uFFFD"));
}

TEST(DecoderTest, ByteFallbackTakesARunAsAWhole) {
  EXPECT_THAT(pieces_of(R"({"type": "ByteFallback"})", {"<0xC3>", "<0xA9>", "a", "<0xC3>"}),
              ElementsAre("", "", "éa", "", "\uFFFD"));
  EXPECT_THAT(pieces_of(R"({"type": "ByteFallback"})", {"<0xC3>", "<0xA9>", "<0xFF>", "a"}),
              ElementsAre("", "", "", "\uFFFD\uFFFD\uFFFDa", ""));
  EXPECT_THAT(pieces_of(R"({"type": "ByteFallback"})", {"<0xZZ>", "<0x1>"}),
              ElementsAre("<0xZZ>", "<0x1>", ""));
}

TEST(DecoderTest, LlamaSequenceStripsOneLeadingSpace) {
  constexpr std::string_view kLlama =
      R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"},)"
      R"( "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},)"
      R"( {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";
  EXPECT_THAT(pieces_of(kLlama, {"▁Hi", "▁", "▁you"}), ElementsAre("Hi", " ", " you", ""));
  EXPECT_THAT(pieces_of(kLlama, {"▁", "▁Hi"}), ElementsAre("", " Hi", ""));
}

TEST(DecoderTest, StripAtTheEndHoldsBack) {
  constexpr std::string_view kStrip =
      R"({"type": "Sequence", "decoders": [{"type": "Fuse"},)"
      R"( {"type": "Strip", "content": "_", "start": 1, "stop": 2}]})";
  EXPECT_THAT(pieces_of(kStrip, {"__a_", "__", "b", "___"}),
              ElementsAre("_a", "_", "__b", "_", ""));
  EXPECT_THAT(pieces_of(kStrip, {"_", "_"}), ElementsAre("", "", ""));
}

TEST(DecoderTest, ReplaceAcrossFusedTokens) {
  constexpr std::string_view kReplace =
      R"({"type": "Sequence", "decoders": [{"type": "Fuse"},)"
      R"( {"type": "Replace", "pattern": {"String": "aab"}, "content": "X"}]})";
  EXPECT_THAT(pieces_of(kReplace, {"ca", "aa", "b", "aa"}), ElementsAre("c", "a", "X", "", "aa"));
  constexpr std::string_view kRegex =
      R"({"type": "Sequence", "decoders": [{"type": "Fuse"},)"
      R"( {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "X"}]})";
  EXPECT_THAT(pieces_of(kRegex, {"ca", "ab"}), ElementsAre("", "", "cXb"));
}

TEST(DecoderTest, MetaspaceDropsTheFirstSpaceOfTheText) {
  constexpr std::string_view kMetaspace = R"({"type": "Metaspace", "replacement": "▁"})";
  EXPECT_THAT(pieces_of(kMetaspace, {"▁a▁", "▁b"}), ElementsAre("a", " b", ""));
  constexpr std::string_view kNever =
      R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"})";
  EXPECT_THAT(pieces_of(kNever, {"▁a", "▁b"}), ElementsAre(" a", " b", ""));
}

TEST(DecoderTest, BpeSuffixIsNoSpaceAtTheEnd) {
  EXPECT_THAT(pieces_of(R"({"type": "BPEDecoder", "suffix": "</w>"})", {"a", "b</w>", "c</w>"}),
              ElementsAre("a", "", "b ", "c"));
}

TEST(DecoderTest, WordPieceCleansUp) {
  EXPECT_THAT(pieces_of(R"({"type": "WordPiece", "prefix": "##", "cleanup": true})",
                        {"do", "##n", "'t", "."}),
              ElementsAre("do", "n", " 't", ".", ""));
}

TEST(StreamDecoderTest, ContextGivesTheFirstPieceItsSpace) {
  const auto tokenizer = small_tokenizer(
      "", R"(, "decoder": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": true})");
  const TokenId space_a = *tokenizer->token_to_id("▁a");
  const std::vector<TokenId> context = {space_a};
  StreamDecoder with_context(*tokenizer, context, true);
  EXPECT_EQ(with_context.push(space_a), " a");
  StreamDecoder without_context(*tokenizer, {}, true);
  EXPECT_EQ(without_context.push(space_a), "a");
}

TEST(StreamDecoderTest, SkipsSpecialAndUnknownIds) {
  const auto tokenizer =
      small_tokenizer("", R"(, "added_tokens": [{"content": "<s>", "special": true}])");
  const std::vector<TokenId> ids = {1, 14, -5, 99, 2};
  EXPECT_EQ(tokenizer->decode(ids, true), "a b");
  EXPECT_EQ(tokenizer->decode(ids, false), "a <s> b");
}

}  // namespace
}  // namespace pregate::model
