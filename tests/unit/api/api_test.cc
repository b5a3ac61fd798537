// Routes, keys, readiness and the four endpoints that take a body, without sockets or threads.
#include "coordinator/api/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/api/fake_exchange.h"
#include "tests/unit/api/fake_model.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;
using testing::FakeChatTemplate;
using testing::FakeExchange;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::ManualService;

class ApiTest : public ::testing::Test {
 protected:
  void start() {
    const auto at_once = [](std::function<void()> task) { task(); };
    api_ = std::make_unique<Api>(config_,
                                 StatusHooks{.readiness = [this] { return readiness_; },
                                             .scrape = [] { return std::string("metric 1\n"); },
                                             .version = "1.2"},
                                 at_once, at_once);
  }
  void start_with_model() {
    start();
    api_->set_model({.generation = service_,
                     .tokenizer = tokenizer_,
                     .chat_template = &template_,
                     .max_model_len = 50,
                     .vocab_size = tokenizer_.vocab_size()});
  }

  std::shared_ptr<FakeExchange> send(const std::string& method, const std::string& path,
                                     const std::string& body = "",
                                     const std::string& authorization = "") {
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.body = body;
    request.authorization = authorization;
    auto exchange = std::make_shared<FakeExchange>(std::move(request));
    api_->handle(exchange);
    return exchange;
  }
  HttpResponse answer(const std::string& method, const std::string& path,
                      const std::string& body = "", const std::string& authorization = "") {
    return send(method, path, body, authorization)->answer.value();
  }
  static json::object error_of(const HttpResponse& response) {
    return json::parse(response.body).at("error").as_object();
  }
  static std::string header(const HttpResponse& response, const std::string& name) {
    for (const auto& [key, value] : response.headers) {
      if (key == name) return value;
    }
    return "";
  }

  ApiConfig config_{.served_names = {"m", "alias"}, .api_keys = {}};
  Readiness readiness_{true, "ready"};
  ManualService service_;
  FakeTokenizer tokenizer_;
  FakeChatTemplate template_;
  std::unique_ptr<Api> api_;
};

TEST_F(ApiTest, StatusWhileLoading) {
  readiness_ = {false, "loading experts 40 %"};
  start();
  EXPECT_EQ(answer("GET", "/health/live").status, 200);
  for (const char* path : {"/health", "/health/ready"}) {
    EXPECT_EQ(answer("GET", path).status, 503);
    EXPECT_THAT(answer("GET", path).body, HasSubstr("loading experts 40 %"));
  }
  EXPECT_EQ(answer("GET", "/version").body, R"({"version":"1.2"})");
  const HttpResponse refused = answer("POST", "/v1/completions", R"({"prompt": "a"})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(header(refused, "Retry-After"), "5");
  EXPECT_EQ(answer("GET", "/v1/models").status, 503);
}

TEST_F(ApiTest, NotReadyUntilThereIsAModelWhateverTheHookSays) {
  start();
  EXPECT_EQ(answer("GET", "/health/ready").status, 503);
}

TEST_F(ApiTest, StatusWhenServingAndWhenDraining) {
  start_with_model();
  EXPECT_EQ(answer("GET", "/health").status, 200);
  EXPECT_EQ(answer("HEAD", "/health").status, 200);
  const HttpResponse metrics = answer("GET", "/metrics");
  EXPECT_EQ(metrics.body, "metric 1\n");
  EXPECT_THAT(metrics.content_type, HasSubstr("version=0.0.4"));
  api_->set_draining();
  EXPECT_EQ(answer("GET", "/health/ready").status, 503);
  EXPECT_EQ(answer("POST", "/v1/completions", R"({"prompt": "a"})").status, 503);
  EXPECT_EQ(answer("GET", "/health/live").status, 200);
}

TEST_F(ApiTest, AServedModelTakesRequestsThoughItIsNotReady) {
  start_with_model();
  readiness_ = {false, "3 experts are held by no live worker"};
  EXPECT_EQ(answer("GET", "/health/ready").status, 503);
  EXPECT_EQ(answer("GET", "/v1/models").status, 200);
  send("POST", "/v1/completions", R"({"prompt": "a"})");
  EXPECT_EQ(service_.num_requests(), 1u);
}

TEST_F(ApiTest, UnknownPathsAndMethods) {
  start_with_model();
  EXPECT_EQ(answer("GET", "/nowhere").status, 404);
  EXPECT_EQ(answer("POST", "/v1/embeddings", "{}").status, 404);
  const HttpResponse get = answer("GET", "/v1/completions");
  EXPECT_EQ(get.status, 405);
  EXPECT_EQ(header(get, "Allow"), "POST, OPTIONS");
  EXPECT_EQ(answer("DELETE", "/v1/models").status, 405);
  EXPECT_EQ(answer("OPTIONS", "/v1/models").status, 204);
  EXPECT_EQ(header(answer("OPTIONS", "/v1/models"), "Access-Control-Allow-Methods"), "");
}

TEST_F(ApiTest, PreflightIsAnsweredWhereAllowed) {
  config_.allow_cors = true;
  config_.api_keys = {"k"};
  start_with_model();
  const HttpResponse response = answer("OPTIONS", "/v1/chat/completions");
  EXPECT_EQ(response.status, 204);
  EXPECT_THAT(header(response, "Access-Control-Allow-Headers"), HasSubstr("Authorization"));
}

TEST_F(ApiTest, KeysGuardAllButHealthAndMetrics) {
  config_.api_keys = {"secret"};
  start_with_model();
  for (const char* path : {"/health", "/health/live", "/health/ready", "/metrics"}) {
    EXPECT_EQ(answer("GET", path).status, 200) << path;
  }
  for (const char* path : {"/v1/models", "/version", "/live", "/nowhere"}) {
    const HttpResponse refused = answer("GET", path);
    EXPECT_EQ(refused.status, 401) << path;
    EXPECT_EQ(error_of(refused).at("code").as_string(), "invalid_api_key");
    EXPECT_EQ(header(refused, "WWW-Authenticate"), "Bearer");
  }
  EXPECT_EQ(answer("POST", "/tokenize", R"({"prompt": "a"})", "Bearer wrong").status, 401);
  EXPECT_EQ(answer("POST", "/tokenize", R"({"prompt": "a"})", "Bearer secret").status, 200);
}

TEST_F(ApiTest, ListsModels) {
  start_with_model();
  const auto list = json::parse(answer("GET", "/v1/models").body);
  EXPECT_EQ(list.at("object").as_string(), "list");
  ASSERT_EQ(list.at("data").as_array().size(), 2u);
  EXPECT_EQ(list.at("data").at(0).at("id").as_string(), "m");
  EXPECT_EQ(list.at("data").at(0).at("max_model_len").as_int64(), 50);
  EXPECT_EQ(json::parse(answer("GET", "/v1/models/alias").body).at("id").as_string(), "alias");
  EXPECT_EQ(error_of(answer("GET", "/v1/models/x")).at("code").as_string(), "model_not_found");
}

TEST_F(ApiTest, ErrorsHaveOpenAisShape) {
  start_with_model();
  const HttpResponse response = answer("POST", "/v1/completions", R"({"prompt": "a", "n": 0})");
  EXPECT_EQ(response.status, 400);
  const auto error = error_of(response);
  EXPECT_EQ(error.at("type").as_string(), "invalid_request_error");
  EXPECT_EQ(error.at("param").as_string(), "n");
  EXPECT_TRUE(error.at("code").is_null());
  EXPECT_THAT(std::string(error.at("message").as_string()), HasSubstr("n: expected an integer"));
  for (const char* path : {"/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"}) {
    EXPECT_EQ(answer("POST", path, "{\"a\":").status, 400) << path;
  }
}

TEST_F(ApiTest, UnknownModelIs404) {
  start_with_model();
  const char* chat = R"({"model": "x", "messages": [{"role": "user", "content": "a"}]})";
  EXPECT_EQ(answer("POST", "/v1/chat/completions", chat).status, 404);
  EXPECT_EQ(answer("POST", "/v1/completions", R"({"model": "x", "prompt": "a"})").status, 404);
  EXPECT_EQ(answer("POST", "/tokenize", R"({"model": "x", "prompt": "a"})").status, 404);
  EXPECT_EQ(answer("POST", "/detokenize", R"({"model": "x", "tokens": []})").status, 404);
}

TEST_F(ApiTest, PromptsAreTokenisedWithSpecialTokensAndChatsWithout) {
  start_with_model();
  send("POST", "/v1/completions", R"({"prompt": "a"})");
  send("POST", "/v1/completions", R"({"prompt": "a", "add_special_tokens": false})");
  send("POST", "/v1/chat/completions", R"({"messages": [{"role": "u", "content": "hi"}]})");
  EXPECT_THAT(service_.request(0).prompt, ElementsAre(FakeTokenizer::kBos, 'a'));
  EXPECT_THAT(service_.request(1).prompt, ElementsAre('a'));
  EXPECT_EQ(tokenizer_.decode(service_.request(2).prompt, false), "u: hi\nassistant:");
}

TEST_F(ApiTest, TheTemplateGetsToolsAndVariables) {
  start_with_model();
  send("POST", "/v1/chat/completions",
       R"({"messages": [{"role": "u", "content": ""}], "tools": [{}, {}],
           "chat_template_kwargs": {"thinking": false}, "add_generation_prompt": false})");
  EXPECT_EQ(tokenizer_.decode(service_.request(0).prompt, false), "u: \ntools=2\nthinking=false\n");
}

TEST_F(ApiTest, ATemplateThatRefusesIsTheRequestsFault) {
  start_with_model();
  const HttpResponse response = answer("POST", "/v1/chat/completions",
                                       R"({"messages": [{"role": "refuse", "content": "a"}]})");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(error_of(response).at("message").as_string(), "the template refuses");
}

TEST_F(ApiTest, WithoutATemplateChatIsRefused) {
  start();
  api_->set_model({.generation = service_,
                   .tokenizer = tokenizer_,
                   .chat_template = nullptr,
                   .max_model_len = 50,
                   .vocab_size = tokenizer_.vocab_size()});
  const HttpResponse response =
      answer("POST", "/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}]})");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(error_of(response).at("code").as_string(), "no_chat_template");
}

TEST_F(ApiTest, PromptsMustFitIntoTheContext) {
  start_with_model();
  const std::string long_prompt(49, 'x');  // and the BOS: 50 tokens
  const HttpResponse response =
      answer("POST", "/v1/completions", R"({"prompt": ")" + long_prompt + "\"}");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(error_of(response).at("code").as_string(), "context_length_exceeded");
  EXPECT_EQ(error_of(response).at("param").as_string(), "prompt");
  EXPECT_EQ(error_of(answer("POST", "/v1/completions", R"({"prompt": [1], "max_tokens": 50})"))
                .at("param")
                .as_string(),
            "max_tokens");
  EXPECT_EQ(
      error_of(answer("POST", "/v1/completions", R"({"prompt": "", "add_special_tokens": false})"))
          .at("param")
          .as_string(),
      "prompt");
}

TEST_F(ApiTest, MaxTokensDefaultsToSixteenForCompletionsAndToTheRestForChat) {
  start_with_model();
  send("POST", "/v1/completions", R"({"prompt": "a"})");
  send("POST", "/v1/completions", R"({"prompt": ")" + std::string(40, 'x') + "\"}");
  send("POST", "/v1/chat/completions", R"({"messages": [{"role": "u", "content": "hi"}]})");
  EXPECT_EQ(service_.request(0).max_tokens, 16u);
  EXPECT_EQ(service_.request(1).max_tokens, 50u - 41u);
  EXPECT_EQ(service_.request(2).max_tokens, 50u - service_.request(2).prompt.size());
}

TEST_F(ApiTest, FullQueueIs429) {
  service_.capacity = 0;
  start_with_model();
  const HttpResponse response = answer("POST", "/v1/completions", R"({"prompt": "a"})");
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(header(response, "Retry-After"), "1");
}

TEST_F(ApiTest, Tokenize) {
  start_with_model();
  EXPECT_EQ(answer("POST", "/tokenize", R"({"prompt": "ab", "return_token_strs": true})").body,
            R"({"count":3,"max_model_len":50,"tokens":[256,97,98],"token_strs":["<s>","a","b"]})");
  EXPECT_EQ(answer("POST", "/tokenize", R"({"prompt": "a", "add_special_tokens": false})").body,
            R"({"count":1,"max_model_len":50,"tokens":[97],"token_strs":null})");
  const auto chat = json::parse(
      answer("POST", "/tokenize",
             R"({"messages": [{"role": "u", "content": ""}], "add_generation_prompt": false})")
          .body);
  EXPECT_EQ(chat.at("count").as_int64(), 4);  // "u: \n"
}

TEST_F(ApiTest, Detokenize) {
  start_with_model();
  EXPECT_EQ(answer("POST", "/detokenize", R"({"tokens": [256, 97, 98]})").body,
            R"({"prompt":"<s>ab"})");
  EXPECT_EQ(answer("POST", "/detokenize", R"({"tokens": []})").body, R"({"prompt":""})");
}

TEST_F(ApiTest, MetricsNameOnlyKnownRoutes) {
  start_with_model();
  EXPECT_EQ(send("GET", "/v1/models/m")->route, "/v1/models/{model}");
  EXPECT_EQ(send("POST", "/tokenize", "{}")->route, "/tokenize");
  EXPECT_EQ(send("GET", "/some/path")->route, "");
}

}  // namespace
}  // namespace pregate::coordinator
