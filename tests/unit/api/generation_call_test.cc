// What comes back from the scheduler, as answers and as streams.
#include "coordinator/api/generation_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/api/fake_exchange.h"
#include "tests/unit/api/fake_model.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::FakeExchange;
using testing::FakeTokenizer;
using testing::ManualService;

/// The "data:" lines of a stream, without [DONE].
std::vector<json::value> events_of(const std::string& stream) {
  std::vector<json::value> events;
  size_t begin = 0;
  for (size_t end; (end = stream.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
    const std::string line = stream.substr(begin, end - begin);
    if (!line.starts_with("data: ")) throw std::runtime_error("not an event: " + line);
    if (line != "data: [DONE]") events.push_back(json::parse(line.substr(6)));
  }
  return events;
}

class GenerationCallTest : public ::testing::Test {
 protected:
  void start(bool chat, const std::string& body) {
    const FakeTokenizer& tokenizer = tokenizer_;
    const testing::FakeChatTemplate chat_template;
    const ServingModel model{.generation = service_,
                             .tokenizer = tokenizer,
                             .chat_template = &chat_template,
                             .max_model_len = 100,
                             .vocab_size = tokenizer.vocab_size()};
    auto call = chat ? prepare_chat(body, model, {"m"}) : prepare_completion(body, model, {"m"});
    AnswerHead head{.id = "id-1", .created = 7, .model = call.value().model};
    auto format = chat ? chat_format(head, call->fields, tokenizer)
                       : completion_format(head, call->fields, tokenizer);
    exchange_ = std::make_shared<FakeExchange>(HttpRequest{});
    GenerationCall::start({exchange_, service_, [](std::function<void()> task) { task(); }},
                          std::move(*call), std::move(format));
  }
  void complete(const std::string& body) { start(false, body); }
  void chat(const std::string& fields) {
    start(true, R"({"messages": [{"role": "u", "content": "hi"}])" + fields + "}");
  }
  json::value answer() const { return json::parse(exchange_->answer.value().body); }
  json::value choice(size_t idx = 0) const { return answer().at("choices").at(idx); }
  std::vector<json::value> events() const { return events_of(exchange_->streamed); }

  ManualService service_;
  const FakeTokenizer tokenizer_;
  std::shared_ptr<FakeExchange> exchange_;
};

TEST_F(GenerationCallTest, ACompletion) {
  complete(R"({"prompt": "hi", "model": "m"})");
  service_.say(0, "ab");
  EXPECT_FALSE(exchange_->answer);
  service_.say(0, "c", FinishReason::kLength);
  const auto body = answer();
  EXPECT_EQ(body.at("id").as_string(), "id-1");
  EXPECT_EQ(body.at("object").as_string(), "text_completion");
  EXPECT_EQ(body.at("created").as_int64(), 7);
  EXPECT_EQ(body.at("model").as_string(), "m");
  EXPECT_EQ(choice().at("text").as_string(), "abc");
  EXPECT_EQ(choice().at("finish_reason").as_string(), "length");
  EXPECT_TRUE(choice().at("logprobs").is_null());
  EXPECT_TRUE(choice().at("stop_reason").is_null());
  EXPECT_TRUE(choice().at("token_ids").is_null());
  EXPECT_EQ(body.at("usage"),
            json::parse(R"({"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3,
                            "prompt_tokens_details": {"cached_tokens": 0}})"));
}

TEST_F(GenerationCallTest, AChat) {
  chat("");
  service_.say(0, "ab", FinishReason::kStop);
  EXPECT_EQ(answer().at("object").as_string(), "chat.completion");
  EXPECT_EQ(choice().at("message").at("role").as_string(), "assistant");
  EXPECT_EQ(choice().at("message").at("content").as_string(), "ab");
  EXPECT_EQ(choice().at("finish_reason").as_string(), "stop");
}

TEST_F(GenerationCallTest, StopReasons) {
  complete(R"({"prompt": ["a", "b"]})");
  GenerationChunk by_token, by_text;
  by_token.finish = by_text.finish = FinishReason::kStop;
  by_token.stop_reason = TokenId{5};
  by_text.stop_reason = std::string("END");
  service_.send(1, by_text);
  service_.send(0, by_token);
  EXPECT_EQ(choice(0).at("stop_reason").as_int64(), 5);
  EXPECT_EQ(choice(1).at("stop_reason").as_string(), "END");
}

TEST_F(GenerationCallTest, ChoicesArePromptByPrompt) {
  complete(R"({"prompt": ["a", "bb"], "n": 2})");
  EXPECT_EQ(service_.request(0).num_choices, 2u);
  for (const uint32_t idx : {3u, 0u, 2u, 1u}) {
    GenerationChunk chunk;
    chunk.choice = idx % 2;
    chunk.text = std::to_string(idx);
    chunk.tokens.resize(1);
    chunk.finish = FinishReason::kLength;
    chunk.num_cached_tokens = 1;
    service_.send(idx / 2, chunk);
  }
  for (size_t idx = 0; idx < 4; ++idx) {
    EXPECT_EQ(choice(idx).at("index").as_int64(), static_cast<int64_t>(idx));
    EXPECT_EQ(choice(idx).at("text").as_string(), std::to_string(idx));
  }
  const auto usage = answer().at("usage");
  EXPECT_EQ(usage.at("prompt_tokens").as_int64(), 2 + 3);
  EXPECT_EQ(usage.at("completion_tokens").as_int64(), 4);
  EXPECT_EQ(usage.at("prompt_tokens_details").at("cached_tokens").as_int64(), 2);
}

GeneratedToken token(TokenId id, float logprob, std::vector<engine::TokenLogprob> top) {
  return {id, logprob, std::move(top), std::string(1, static_cast<char>(id))};
}

TEST_F(GenerationCallTest, CompletionLogprobsWithEcho) {
  complete(R"({"prompt": [97, 98], "echo": true, "logprobs": 1, "return_token_ids": true})");
  EXPECT_EQ(service_.request(0).prompt_logprobs, 1u);
  GenerationChunk chunk;
  chunk.prompt_tokens = {token('a', 0, {}), token('b', -0.5f, {{'b', -0.5f}})};
  chunk.tokens = {token('c', -2.0f, {{'d', -0.25f}})};
  chunk.text = "c";
  chunk.finish = FinishReason::kLength;
  service_.send(0, chunk);
  EXPECT_EQ(choice().at("text").as_string(), "abc");
  EXPECT_EQ(choice().at("logprobs"),
            json::parse(R"({"text_offset": [0, 1, 2], "tokens": ["a", "b", "c"],
                            "token_logprobs": [null, -0.5, -2.0],
                            "top_logprobs": [null, {"b": -0.5}, {"d": -0.25, "c": -2.0}]})"));
  EXPECT_EQ(choice().at("token_ids"), json::parse("[99]"));
  EXPECT_EQ(choice().at("prompt_token_ids"), json::parse("[97, 98]"));
  EXPECT_TRUE(choice().at("prompt_logprobs").is_null());
}

TEST_F(GenerationCallTest, PromptLogprobs) {
  complete(R"({"prompt": [97, 98], "prompt_logprobs": 1})");
  GenerationChunk chunk;
  chunk.prompt_tokens = {token('a', 0, {}), token('b', -2.0f, {{'c', -0.5f}})};
  chunk.finish = FinishReason::kLength;
  service_.send(0, chunk);
  EXPECT_EQ(choice().at("prompt_logprobs"), json::parse(R"([null,
                {"99": {"logprob": -0.5, "rank": 1, "decoded_token": "c"},
                 "98": {"logprob": -2.0, "rank": null, "decoded_token": "b"}}])"));
}

TEST_F(GenerationCallTest, ChatLogprobs) {
  chat(R"(, "logprobs": true, "top_logprobs": 1, "return_token_ids": true)");
  GenerationChunk chunk;
  chunk.tokens = {token('c', -std::numeric_limits<float>::infinity(), {{'d', -0.25f}})};
  chunk.finish = FinishReason::kStop;
  service_.send(0, chunk);
  EXPECT_EQ(choice().at("logprobs"),
            json::parse(R"({"content": [{"token": "c", "logprob": -9999.0, "bytes": [99],
                "top_logprobs": [{"token": "d", "logprob": -0.25, "bytes": [100]}]}]})"));
  EXPECT_EQ(choice().at("token_ids"), json::parse("[99]"));
  EXPECT_EQ(answer().at("prompt_token_ids").as_array().size(), 16u);  // "u: hi\nassistant:"
}

TEST_F(GenerationCallTest, TokensCanBeShownAsIds) {
  complete(R"({"prompt": "a", "logprobs": 0, "return_tokens_as_token_ids": true})");
  service_.say(0, "x", FinishReason::kStop);
  EXPECT_EQ(choice().at("logprobs").at("tokens").at(0).as_string(), "token_id:120");
}

TEST_F(GenerationCallTest, AStreamOfACompletion) {
  complete(R"({"prompt": "hi", "stream": true, "echo": true, "return_token_ids": true})");
  EXPECT_FALSE(exchange_->stream_head);
  service_.say(0, "a");
  EXPECT_EQ(exchange_->stream_head->content_type, "text/event-stream; charset=utf-8");
  service_.say(0, "");  // nothing to show
  service_.say(0, "b", FinishReason::kStop);
  EXPECT_EQ(exchange_->stream_complete, true);
  EXPECT_THAT(exchange_->streamed, EndsWith("data: [DONE]\n\n"));
  ASSERT_EQ(events().size(), 2u);
  const auto first = events()[0].at("choices").at(0);
  EXPECT_EQ(first.at("text").as_string(), "hia");
  EXPECT_TRUE(first.at("finish_reason").is_null());
  EXPECT_EQ(first.at("prompt_token_ids"), json::parse("[256, 104, 105]"));
  EXPECT_EQ(first.at("token_ids"), json::parse("[97]"));
  const auto last = events()[1].at("choices").at(0);
  EXPECT_EQ(last.at("text").as_string(), "b");
  EXPECT_EQ(last.at("finish_reason").as_string(), "stop");
  EXPECT_EQ(last.as_object().if_contains("prompt_token_ids"), nullptr);
  EXPECT_EQ(events()[1].as_object().if_contains("usage"), nullptr);
}

TEST_F(GenerationCallTest, AStreamOfAChatWithUsage) {
  chat(R"(, "stream": true, "stream_options": {"include_usage": true})");
  service_.say(0, "");
  service_.say(0, "ab");
  service_.say(0, "", FinishReason::kLength);
  const auto all = events();
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0].at("object").as_string(), "chat.completion.chunk");
  EXPECT_EQ(all[0].at("choices").at(0).at("delta"),
            json::parse(R"({"role": "assistant", "content": ""})"));
  EXPECT_TRUE(all[0].at("usage").is_null());
  EXPECT_EQ(all[1].at("choices").at(0).at("delta"), json::parse(R"({"content": "ab"})"));
  EXPECT_EQ(all[2].at("choices").at(0).at("delta"), json::parse("{}"));
  EXPECT_EQ(all[2].at("choices").at(0).at("finish_reason").as_string(), "length");
  EXPECT_EQ(all[3].at("choices").as_array().size(), 0u);
  EXPECT_EQ(all[3].at("usage").at("completion_tokens").as_int64(), 2);
}

TEST_F(GenerationCallTest, UsageInEveryEventWhereAskedFor) {
  complete(
      R"({"prompt": "a", "stream": true, "stream_options": {"continuous_usage_stats": true}})");
  service_.say(0, "a");
  service_.say(0, "bc");
  EXPECT_EQ(events()[0].at("usage").at("completion_tokens").as_int64(), 1);
  EXPECT_EQ(events()[1].at("usage").at("completion_tokens").as_int64(), 3);
}

TEST_F(GenerationCallTest, OffsetsOfAStreamGoOn) {
  complete(R"({"prompt": "a", "stream": true, "logprobs": 0})");
  service_.say(0, "ab");
  service_.say(0, "c", FinishReason::kStop);
  EXPECT_EQ(events()[1].at("choices").at(0).at("logprobs").at("text_offset"), json::parse("[2]"));
}

TEST_F(GenerationCallTest, AnErrorBeforeTheFirstTokenHasItsStatus) {
  complete(R"({"prompt": "a", "stream": true})");
  service_.break_down(0, {ErrorCode::kUnavailable, "worker 2 is gone"});
  EXPECT_EQ(exchange_->answer->status, 503);
  EXPECT_EQ(answer().at("error").at("message").as_string(), "worker 2 is gone");
  EXPECT_FALSE(exchange_->stream_head);
}

TEST_F(GenerationCallTest, AnErrorInMidStreamIsAnEventAndTheEnd) {
  complete(R"({"prompt": "a", "stream": true})");
  service_.say(0, "x");
  service_.break_down(0, {ErrorCode::kUnavailable, "worker 2 is gone"});
  EXPECT_EQ(events().back().at("error").at("message").as_string(), "worker 2 is gone");
  EXPECT_EQ(exchange_->stream_complete, false);
  const std::string before = exchange_->streamed;
  service_.say(0, "y", FinishReason::kStop);
  EXPECT_EQ(exchange_->streamed, before);
}

TEST_F(GenerationCallTest, StatusesOfErrors) {
  const std::pair<ErrorCode, int> expected[] = {
      {ErrorCode::kInvalidArgument, 400}, {ErrorCode::kResourceExhausted, 429},
      {ErrorCode::kUnavailable, 503},     {ErrorCode::kDeadlineExceeded, 503},
      {ErrorCode::kInternal, 500},        {ErrorCode::kUnknown, 500}};
  for (const auto& [code, status] : expected) {
    EXPECT_EQ(to_api_error(Error{code, "x"}).status, status);
  }
}

TEST_F(GenerationCallTest, OneFailedPromptCancelsTheOthers) {
  complete(R"({"prompt": ["a", "b", "c"]})");
  service_.break_down(1, {ErrorCode::kInternal, "broken"});
  EXPECT_THAT(service_.cancelled(), ElementsAre(0u, 1u, 2u));
  EXPECT_EQ(exchange_->answer->status, 500);
}

TEST_F(GenerationCallTest, APromptThatFindsTheQueueFullCancelsTheOthers) {
  service_.capacity = 2;
  complete(R"({"prompt": ["a", "b", "c"]})");
  EXPECT_THAT(service_.cancelled(), ElementsAre(0u, 1u));
  EXPECT_EQ(exchange_->answer->status, 429);
}

TEST_F(GenerationCallTest, APeerThatLeavesCancels) {
  complete(R"({"prompt": "a"})");
  exchange_->abandon();
  EXPECT_THAT(service_.cancelled(), ElementsAre(0u));
  service_.say(0, "late", FinishReason::kStop);
  EXPECT_FALSE(exchange_->answer);
}

TEST_F(GenerationCallTest, LivesNoLongerThanItsListeners) {
  complete(R"({"prompt": "a"})");
  EXPECT_GT(exchange_.use_count(), 1);
  service_.say(0, "x", FinishReason::kStop);
  service_.forget(0);
  EXPECT_EQ(exchange_.use_count(), 1);
  exchange_->abandon();  // finds nobody
}

}  // namespace
}  // namespace pregate::coordinator
