// Ids and decoded text equal to those of the reference library, on generated strings. The expected
// values are in data/, written by make_tokenizer_data.py.
#include <boost/json/value_to.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/tokenizer/regex.h"
#include "model/tokenizer/split.h"
#include "model/tokenizer/tokenizer.h"
#include "tests/unit/tokenizer/string_generator.h"

namespace pregate::model {
namespace {

const std::filesystem::path kFolder = PREGATE_SOURCE_DIR "/tests/unit/tokenizer";

std::string decode_by_stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                             bool skip_special_tokens) {
  StreamDecoder decoder(tokenizer, {}, skip_special_tokens);
  std::string text;
  for (const TokenId id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

/// Matches and what lies between, without what is empty.
std::vector<std::string> cut(const Regex& regex, const std::string& text) {
  std::vector<ByteRange> matches;
  std::vector<Span> spans;
  regex.find_all(text, matches);
  spans_from_matches(matches, text.size(), false, spans);
  std::vector<std::string> pieces;
  for (const Span& span : spans) {
    const ByteRange range = span.range;
    if (range.begin < range.end)
      pieces.push_back(text.substr(range.begin, range.end - range.begin));
  }
  return pieces;
}

class ReferenceTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto loaded = Tokenizer::load(folder());
    ASSERT_TRUE(loaded) << loaded.error().message;
    tokenizer_ = std::move(*loaded);
    expected_ = read_test_json(folder() / "expected.json");
  }
  std::filesystem::path folder() const { return kFolder / "data" / GetParam(); }

  std::unique_ptr<Tokenizer> tokenizer_;
  boost::json::value expected_;
};

TEST_P(ReferenceTest, StringsGivenInFull) {
  for (const boost::json::value& sample : expected_.at("full").as_array()) {
    const auto text = boost::json::value_to<std::string>(sample.at("text"));
    const auto ids = boost::json::value_to<std::vector<TokenId>>(sample.at("ids"));
    EXPECT_EQ(tokenizer_->encode(text, true), ids) << text;
    EXPECT_EQ(tokenizer_->decode(ids, false), sample.at("decoded").as_string()) << text;
    EXPECT_EQ(tokenizer_->decode(ids, true), sample.at("skipped").as_string()) << text;
  }
}

TEST_P(ReferenceTest, StringsGivenByTheirHash) {
  const StringTables tables = StringTables::read(kFolder / "string_tables.json");
  const auto block = boost::json::value_to<uint64_t>(expected_.at("block"));
  const boost::json::array& hashes = expected_.at("hashes").as_array();
  ASSERT_EQ(hashes.size() * block, boost::json::value_to<uint64_t>(expected_.at("num_strings")));
  for (uint64_t i = 0; i < hashes.size(); ++i) {
    Fnv1a hash;
    for (uint64_t seed = i * block; seed < (i + 1) * block; ++seed) {
      const std::vector<TokenId> ids = tokenizer_->encode(generate_string(tables, seed), true);
      for (const TokenId id : ids) hash.add(id);
      hash.add(
          fmt::format("|{}|{}\n", tokenizer_->decode(ids, false), tokenizer_->decode(ids, true)));
    }
    EXPECT_EQ(hash.hex(), hashes[i].as_string())
        << "one of the strings of seeds " << i * block << " to " << (i + 1) * block - 1
        << ", the first of which is: " << generate_string(tables, i * block);
  }
}

TEST_P(ReferenceTest, StreamGivesTheSameText) {
  const StringTables tables = StringTables::read(kFolder / "string_tables.json");
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const std::vector<TokenId> ids = tokenizer_->encode(generate_string(tables, seed), true);
    for (const bool skip : {false, true}) {
      EXPECT_EQ(decode_by_stream(*tokenizer_, ids, skip), tokenizer_->decode(ids, skip));
    }
  }
}

TEST_P(ReferenceTest, StreamOfRandomIdsGivesTheSameText) {
  const auto num_ids = static_cast<TokenId>(tokenizer_->vocab_size());
  std::vector<TokenId> ids;
  for (TokenId i = 0; i < 5000; ++i) ids.push_back(i * 7919 % (num_ids + 3));
  EXPECT_EQ(decode_by_stream(*tokenizer_, ids, false), tokenizer_->decode(ids, false));
}

TEST(RegexReferenceTest, CutsAsTheReferenceDoes) {
  const StringTables tables = StringTables::read(kFolder / "string_tables.json");
  const boost::json::value expected = read_test_json(kFolder / "data" / "expressions.json");
  const auto num_strings = boost::json::value_to<uint64_t>(expected.at("num_strings"));
  for (const boost::json::value& row : expected.at("rows").as_array()) {
    const auto expression = boost::json::value_to<std::string>(row.at("expression"));
    const Result<Regex> regex = Regex::compile(expression);
    ASSERT_TRUE(regex) << regex.error().message;
    Fnv1a hash;
    for (uint64_t seed = 0; seed < num_strings; ++seed) {
      for (const std::string& piece : cut(*regex, generate_string(tables, seed))) {
        hash.add(piece);
        hash.add("|");
      }
    }
    EXPECT_EQ(hash.hex(), row.at("hash").as_string()) << expression;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, ReferenceTest,
                         testing::Values("gpt2", "gpt2_prefix", "qwen2", "llama3", "mixtral",
                                         "metaspace_first", "metaspace_split", "stress", "words"),
                         [](const auto& suite) { return suite.param; });

}  // namespace
}  // namespace pregate::model
