// Every field of the requests, its default, and what is refused.
#include "coordinator/api/api_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const RequestRules kRules{.vocab_size = 1000, .max_model_len = 100, .default_sampling = {}};

boost::json::object body_of(std::string_view text) { return parse_body(text).value(); }

CompletionRequest completion(std::string_view body) {
  auto request = parse_completion(body_of(body), kRules);
  if (!request) throw std::runtime_error(request.error().message);
  return std::move(*request);
}

ChatRequest chat(std::string_view body) {
  auto request = parse_chat(body_of(body), kRules);
  if (!request) throw std::runtime_error(request.error().message);
  return std::move(*request);
}

TEST(ParseBody, RefusesWhatIsNotAnObject) {
  for (const char* bad : {"", "{", "[]", "\"x\"", "{\"a\":1,}", "{\"a\":\"\xff\"}", "nul"}) {
    EXPECT_EQ(parse_body(bad).error().status, 400) << bad;
  }
  EXPECT_EQ(
      parse_body("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}").error().status,
      400);
}

TEST(ParseCompletion, Defaults) {
  const auto request = completion(R"({"prompt": "hi"})");
  const GenerationRequest& generation = request.fields.generation;
  EXPECT_THAT(request.prompts, ElementsAre(Prompt("hi")));
  EXPECT_EQ(request.fields.model, "");
  EXPECT_EQ(generation.max_tokens, 16u);
  EXPECT_EQ(generation.num_choices, 1u);
  EXPECT_EQ(generation.sampling.temperature, 1.0f);
  EXPECT_EQ(generation.sampling.logprobs, std::nullopt);
  EXPECT_TRUE(generation.skip_special_tokens);
  EXPECT_TRUE(request.fields.add_special_tokens);
  EXPECT_FALSE(request.fields.stream);
}

TEST(ParseCompletion, EveryForm0fPrompt) {
  using Ids = std::vector<TokenId>;
  EXPECT_THAT(completion(R"({"prompt": ["a", "b"]})").prompts,
              ElementsAre(Prompt("a"), Prompt("b")));
  EXPECT_THAT(completion(R"({"prompt": [1, 2]})").prompts, ElementsAre(Prompt(Ids{1, 2})));
  EXPECT_THAT(completion(R"({"prompt": [[1], [2, 3]]})").prompts,
              ElementsAre(Prompt(Ids{1}), Prompt(Ids{2, 3})));
}

TEST(ParseCompletion, EverySamplingField) {
  const auto request = completion(R"({"prompt": "hi", "temperature": 0.5, "top_p": 0.25,
      "top_k": 7, "min_p": 0.125, "seed": 42, "presence_penalty": -1, "frequency_penalty": 1.5,
      "repetition_penalty": 1.25, "logit_bias": {"5": -100, "6": 2.5}, "logprobs": 3})");
  const engine::SamplingParams& sampling = request.fields.generation.sampling;
  EXPECT_EQ(sampling.temperature, 0.5f);
  EXPECT_EQ(sampling.top_p, 0.25f);
  EXPECT_EQ(sampling.top_k, 7);
  EXPECT_EQ(sampling.min_p, 0.125f);
  EXPECT_EQ(sampling.seed, 42u);
  EXPECT_EQ(sampling.presence_penalty, -1.0f);
  EXPECT_EQ(sampling.frequency_penalty, 1.5f);
  EXPECT_EQ(sampling.repetition_penalty, 1.25f);
  EXPECT_EQ(sampling.logit_bias.at(5), -100.0f);
  EXPECT_EQ(sampling.logit_bias.at(6), 2.5f);
  EXPECT_EQ(sampling.logprobs, 3u);
}

TEST(ParseCompletion, EveryOtherField) {
  const auto request = completion(R"({"model": "m", "prompt": "hi", "max_tokens": 9,
      "min_tokens": 2, "n": 3, "best_of": 3, "stop": ["x", "yy"], "stop_token_ids": [8],
      "ignore_eos": true, "include_stop_str_in_output": true, "skip_special_tokens": false,
      "stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true},
      "return_token_ids": true, "return_tokens_as_token_ids": true, "add_special_tokens": false,
      "user": "someone", "suffix": null, "unheard_of": {"a": 1}})");
  const GenerationRequest& generation = request.fields.generation;
  EXPECT_EQ(request.fields.model, "m");
  EXPECT_EQ(generation.max_tokens, 9u);
  EXPECT_EQ(generation.min_tokens, 2u);
  EXPECT_EQ(generation.num_choices, 3u);
  EXPECT_THAT(generation.stop, ElementsAre("x", "yy"));
  EXPECT_THAT(generation.stop_token_ids, ElementsAre(8));
  EXPECT_TRUE(generation.ignore_eos);
  EXPECT_TRUE(generation.include_stop_in_text);
  EXPECT_FALSE(generation.skip_special_tokens);
  EXPECT_TRUE(request.fields.stream);
  EXPECT_TRUE(request.fields.include_usage);
  EXPECT_TRUE(request.fields.continuous_usage);
  EXPECT_TRUE(request.fields.return_token_ids);
  EXPECT_TRUE(request.fields.tokens_as_ids);
  EXPECT_FALSE(request.fields.add_special_tokens);
  EXPECT_THAT(completion(R"({"prompt": "a", "stop": "z"})").fields.generation.stop,
              ElementsAre("z"));
}

TEST(ParseCompletion, TheModelsOwnDefaultsHold) {
  RequestRules rules = kRules;
  rules.default_sampling.temperature = 0.25f;
  rules.default_sampling.top_k = 20;
  const auto request = parse_completion(body_of(R"({"prompt": "a", "top_k": 5})"), rules);
  EXPECT_EQ(request->fields.generation.sampling.temperature, 0.25f);
  EXPECT_EQ(request->fields.generation.sampling.top_k, 5);
}

TEST(ParseCompletion, EchoWithLogprobsNeedsThoseOfThePrompt) {
  const auto echo = completion(R"({"prompt": "a", "echo": true, "logprobs": 2})");
  EXPECT_EQ(echo.fields.generation.prompt_logprobs, 2u);
  EXPECT_FALSE(echo.fields.return_prompt_logprobs);
  const auto asked = completion(R"({"prompt": "a", "prompt_logprobs": 0})");
  EXPECT_EQ(asked.fields.generation.prompt_logprobs, 0u);
  EXPECT_TRUE(asked.fields.return_prompt_logprobs);
}

struct Refused {
  const char* fields;  // put into an otherwise valid body
  const char* param;
};

class CompletionRefuses : public ::testing::TestWithParam<Refused> {};
TEST_P(CompletionRefuses, NamingTheField) {
  const std::string body = std::string(R"({"prompt": "a", )") + GetParam().fields + "}";
  const auto request = parse_completion(body_of(body), kRules);
  ASSERT_FALSE(request.has_value()) << body;
  EXPECT_EQ(request.error().status, 400);
  EXPECT_EQ(request.error().param, GetParam().param);
  EXPECT_THAT(request.error().message, HasSubstr(GetParam().param));
}
INSTANTIATE_TEST_SUITE_P(
    Fields, CompletionRefuses,
    ::testing::Values(
        Refused{R"("temperature": -0.1)", "temperature"},
        Refused{R"("temperature": 2.1)", "temperature"},
        Refused{R"("temperature": "hot")", "temperature"},
        Refused{R"("temperature": 1e400)", "temperature"}, Refused{R"("top_p": 0)", "top_p"},
        Refused{R"("top_p": 1.1)", "top_p"}, Refused{R"("top_k": -2)", "top_k"},
        Refused{R"("top_k": 1.5)", "top_k"}, Refused{R"("min_p": 1.5)", "min_p"},
        Refused{R"("seed": "x")", "seed"}, Refused{R"("presence_penalty": 3)", "presence_penalty"},
        Refused{R"("frequency_penalty": -3)", "frequency_penalty"},
        Refused{R"("repetition_penalty": 0)", "repetition_penalty"},
        Refused{R"("logit_bias": {"5": 101})", "logit_bias"},
        Refused{R"("logit_bias": {"1000": 1})", "logit_bias"},
        Refused{R"("logit_bias": {"-1": 1})", "logit_bias"},
        Refused{R"("logit_bias": {"x": 1})", "logit_bias"},
        Refused{R"("logit_bias": {"5": "1"})", "logit_bias"},
        Refused{R"("logit_bias": [5])", "logit_bias"}, Refused{R"("logprobs": 21)", "logprobs"},
        Refused{R"("logprobs": true)", "logprobs"},
        Refused{R"("prompt_logprobs": -1)", "prompt_logprobs"},
        Refused{R"("prompt_logprobs": 1, "stream": true)", "prompt_logprobs"},
        Refused{R"("max_tokens": -1)", "max_tokens"}, Refused{R"("max_tokens": "9")", "max_tokens"},
        Refused{R"("max_tokens": 99999999999)", "max_tokens"},
        Refused{R"("max_tokens": 18446744073709551615)", "max_tokens"},
        Refused{R"("min_tokens": 5, "max_tokens": 4)", "min_tokens"}, Refused{R"("n": 0)", "n"},
        Refused{R"("n": 129)", "n"}, Refused{R"("best_of": 2)", "best_of"},
        Refused{R"("stop": "")", "stop"}, Refused{R"("stop": [1])", "stop"},
        Refused{R"("stop": {"a": 1})", "stop"},
        Refused{R"("stop_token_ids": [1000])", "stop_token_ids"},
        Refused{R"("stop_token_ids": 5)", "stop_token_ids"},
        Refused{R"("ignore_eos": 1)", "ignore_eos"}, Refused{R"("stream": "yes")", "stream"},
        Refused{R"("stream_options": {"include_usage": true})", "stream_options"},
        Refused{R"("stream": true, "stream_options": {"include_usage": 1})", "stream_options"},
        Refused{R"("suffix": "end")", "suffix"}, Refused{R"("model": 5)", "model"},
        Refused{R"("response_format": {"type": "json_object"})", "response_format"},
        Refused{R"("guided_regex": "a+")", "guided_regex"},
        Refused{R"("use_beam_search": true)", "use_beam_search"}));

class PromptRefused : public ::testing::TestWithParam<const char*> {};
TEST_P(PromptRefused, NamingThePrompt) {
  const auto request = parse_completion(body_of(GetParam()), kRules);
  ASSERT_FALSE(request.has_value());
  EXPECT_EQ(request.error().param, "prompt");
}
INSTANTIATE_TEST_SUITE_P(Forms, PromptRefused,
                         ::testing::Values(R"({})", R"({"prompt": null})", R"({"prompt": 5})",
                                           R"({"prompt": []})", R"({"prompt": [1000]})",
                                           R"({"prompt": [-1]})", R"({"prompt": [1.5]})",
                                           R"({"prompt": [1, "a"]})", R"({"prompt": ["a", 1]})",
                                           R"({"prompt": [["a"]]})", R"({"prompt": {}})",
                                           R"({"prompt": [[1], [9999]]})"));

TEST(ParseChat, DefaultsAndMessages) {
  const auto request = chat(R"({"messages": [
      {"role": "system", "content": null},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "tool_calls": [{"id": "1", "type": "function",
        "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "1", "content": "2"}]})");
  ASSERT_EQ(request.messages.size(), 4u);
  EXPECT_EQ(request.messages[0].at("content").as_string(), "");
  EXPECT_EQ(request.messages[1].at("content").as_string(), "a\nb");
  EXPECT_EQ(request.messages[2].at("content").as_string(), "");
  const auto& function = request.messages[2].at("tool_calls").at(0).at("function");
  EXPECT_EQ(function.at("arguments").at("x").as_int64(), 1);
  EXPECT_EQ(request.messages[3].at("tool_call_id").as_string(), "1");
  EXPECT_EQ(request.fields.generation.max_tokens, 100u);
  EXPECT_EQ(request.fields.max_tokens, std::nullopt);
  EXPECT_FALSE(request.fields.add_special_tokens);
  EXPECT_TRUE(request.options.add_generation_prompt);
}

TEST(ParseChat, TemplateOptionsAndLogprobs) {
  const auto request = chat(R"({"messages": [{"role": "user", "content": "a"}],
      "max_tokens": 5, "max_completion_tokens": 6, "logprobs": true, "top_logprobs": 2,
      "add_generation_prompt": false, "chat_template_kwargs": {"enable_thinking": false},
      "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto",
      "response_format": {"type": "text"}})");
  EXPECT_EQ(request.fields.max_tokens, 6u);
  EXPECT_EQ(request.fields.generation.sampling.logprobs, 2u);
  EXPECT_FALSE(request.options.add_generation_prompt);
  EXPECT_EQ(request.options.variables.at("enable_thinking").as_bool(), false);
  EXPECT_EQ(request.options.tools.size(), 1u);
  EXPECT_EQ(chat(R"({"messages": [{"role": "user", "content": "a"}], "logprobs": true})")
                .fields.generation.sampling.logprobs,
            0u);
  EXPECT_EQ(chat(R"({"messages": [{"role": "user", "content": "a"}], "tools": [{}],
                     "tool_choice": "none"})")
                .options.tools.size(),
            0u);
}

class ChatRefuses : public ::testing::TestWithParam<Refused> {};
TEST_P(ChatRefuses, NamingTheField) {
  const std::string body =
      std::string(R"({"messages": [{"role": "user", "content": "a"}], )") + GetParam().fields + "}";
  const auto request = parse_chat(body_of(body), kRules);
  ASSERT_FALSE(request.has_value()) << body;
  EXPECT_EQ(request.error().param, GetParam().param);
}
INSTANTIATE_TEST_SUITE_P(
    Fields, ChatRefuses,
    ::testing::Values(Refused{R"("max_tokens": 0)", "max_tokens"},
                      Refused{R"("max_completion_tokens": 0)", "max_completion_tokens"},
                      Refused{R"("logprobs": 1)", "logprobs"},
                      Refused{R"("top_logprobs": 2)", "top_logprobs"},
                      Refused{R"("logprobs": true, "top_logprobs": 21)", "top_logprobs"},
                      Refused{R"("tool_choice": "required")", "tool_choice"},
                      Refused{R"("tools": {})", "tools"},
                      Refused{R"("chat_template_kwargs": [])", "chat_template_kwargs"},
                      Refused{R"("chat_template": "x")", "chat_template"},
                      Refused{R"("continue_final_message": true)", "continue_final_message"},
                      Refused{R"("response_format": {"type": "json_schema"})", "response_format"},
                      Refused{R"("echo": true)", "echo"}));

class MessagesRefused : public ::testing::TestWithParam<const char*> {};
TEST_P(MessagesRefused, NamingTheMessages) {
  const auto request =
      parse_chat(body_of(std::string(R"({"messages": )") + GetParam() + "}"), kRules);
  ASSERT_FALSE(request.has_value());
  EXPECT_EQ(request.error().param, "messages");
}
INSTANTIATE_TEST_SUITE_P(
    Forms, MessagesRefused,
    ::testing::Values(
        "null", "[]", "{}", "\"hi\"", "[1]", R"([{"content": "a"}])",
        R"([{"role": "", "content": "a"}])", R"([{"role": 1, "content": "a"}])",
        R"([{"role": "user", "content": 1}])", R"([{"role": "user", "content": ["a"]}])",
        R"([{"role": "user", "content": [{"type": "text"}]}])",
        R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])"));

TEST(ParseTokenize, PromptOrMessages) {
  const auto prompt = parse_tokenize(body_of(R"({"prompt": "a", "return_token_strs": true})"));
  EXPECT_EQ(prompt->prompt, "a");
  EXPECT_TRUE(prompt->add_special_tokens);
  EXPECT_TRUE(prompt->return_token_strs);
  const auto messages =
      parse_tokenize(body_of(R"({"messages": [{"role": "user", "content": "a"}]})"));
  EXPECT_EQ(messages->messages->size(), 1u);
  EXPECT_FALSE(messages->add_special_tokens);
  EXPECT_EQ(parse_tokenize(body_of("{}")).error().param, "prompt");
  EXPECT_EQ(parse_tokenize(body_of(R"({"prompt": [1]})")).error().param, "prompt");
}

TEST(ParseDetokenize, TokensInTheVocabulary) {
  EXPECT_THAT(parse_detokenize(body_of(R"({"tokens": [1, 2]})"), kRules)->tokens,
              ElementsAre(1, 2));
  EXPECT_EQ(parse_detokenize(body_of(R"({"tokens": [1000]})"), kRules).error().param, "tokens");
  EXPECT_EQ(parse_detokenize(body_of("{}"), kRules).error().param, "tokens");
}

}  // namespace
}  // namespace pregate::coordinator
