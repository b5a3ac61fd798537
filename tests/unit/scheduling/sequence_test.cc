#include "coordinator/scheduling/sequence.h"

#include <gtest/gtest.h>

#include "tests/unit/scheduling/fake_tokenizer.h"

namespace pregate::coordinator {
namespace {

constexpr TokenId kEos = 25;  // 'z'

class SequenceTest : public ::testing::Test {
 protected:
  // Runs greedily over logits that spell `text` and returns the chunks joined.
  GenerationChunk generate(GenerationRequest request, const std::string& text) {
    auto active = std::make_shared<ActiveRequest>();
    request.sampling.temperature = 0;
    if (request.prompt.empty()) request.prompt = {0};
    active->request = std::move(request);
    GenerationChunk all;
    active->listener.on_chunk = [&](GenerationChunk chunk) {
      EXPECT_FALSE(all.finish.has_value());
      all.text += chunk.text;
      for (auto& token : chunk.tokens) all.tokens.push_back(token);
      all.finish = chunk.finish;
      all.stop_reason = chunk.stop_reason;
    };
    Sequence sequence(active, 0, rules_, 0);
    for (const char c : text) {
      if (sequence.finished()) break;
      std::vector<float> logits(26, 0.0f);
      logits[c - 'a'] = 2.0f;
      logits[(c - 'a' + 1) % 26] = 1.0f;  // second best: the next letter
      sequence.append_token(logits);
      sequence.flush();
    }
    return all;
  }

  const LetterTokenizer tokenizer_;
  const TextRules rules_{&tokenizer_, {kEos}, 26, 40};
};

TEST_F(SequenceTest, EndsAtMaxTokens) {
  const auto out = generate({.max_tokens = 3}, "hello");
  EXPECT_EQ(out.text, "hel");
  EXPECT_EQ(out.finish, FinishReason::kLength);
}

TEST_F(SequenceTest, EndsAtEosWithoutShowingIt) {
  const auto out = generate({}, "byez");
  EXPECT_EQ(out.text, "bye");
  EXPECT_EQ(out.tokens.size(), 4u);
  EXPECT_EQ(out.finish, FinishReason::kStop);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(out.stop_reason));
}

TEST_F(SequenceTest, IgnoresEosWhenAsked) {
  EXPECT_EQ(generate({.max_tokens = 5, .ignore_eos = true}, "byezbye").text, "byezb");
}

TEST_F(SequenceTest, EndsAtAStopTokenAndNamesIt) {
  const auto out = generate({.stop_token_ids = {4}}, "there");
  EXPECT_EQ(out.text, "th");
  EXPECT_EQ(std::get<TokenId>(out.stop_reason), 4);
}

TEST_F(SequenceTest, EndsAtAStopStringAndNamesIt) {
  const auto out = generate({.max_tokens = 30, .stop = {"lo", "never"}}, "helloworld");
  EXPECT_EQ(out.text, "hel");
  EXPECT_EQ(out.finish, FinishReason::kStop);
  EXPECT_EQ(std::get<std::string>(out.stop_reason), "lo");
}

TEST_F(SequenceTest, AStopCanBePartOfTheText) {
  EXPECT_EQ(generate({.stop = {"lo"}, .include_stop_in_text = true}, "hello").text, "hello");
  EXPECT_EQ(generate({.stop_token_ids = {4}, .include_stop_in_text = true}, "there").text, "the");
}

TEST_F(SequenceTest, BeforeMinTokensEndsAreForbidden) {
  // EOS is the best choice all along, but only the third token may be it.
  const auto eos = generate({.min_tokens = 2}, "zzzz");
  EXPECT_EQ(eos.text, "aa");
  const auto stop = generate({.max_tokens = 9, .min_tokens = 3, .stop = {"ab"}}, "ababab");
  EXPECT_EQ(stop.text, "ab");
  EXPECT_EQ(stop.tokens.size(), 4u);
}

TEST_F(SequenceTest, HeldTextComesOutAtTheEnd) {
  EXPECT_EQ(generate({.max_tokens = 3, .stop = {"abcd"}}, "abc").text, "abc");
}

TEST_F(SequenceTest, EndsWhenTheContextIsFull) {
  const auto out = generate({.prompt = std::vector<TokenId>(38, 1), .max_tokens = 30}, "hello");
  EXPECT_EQ(out.text, "he");
  EXPECT_EQ(out.finish, FinishReason::kLength);
}

}  // namespace
}  // namespace pregate::coordinator
