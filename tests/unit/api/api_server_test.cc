// The whole API over real sockets, with a service whose steps the test makes.
#include "coordinator/api/api_server.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "monitoring/metrics/registry.h"
#include "tests/unit/api/fake_exchange.h"
#include "tests/unit/api/fake_model.h"
#include "tests/unit/api/test_client.h"

namespace pregate::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ClientResponse;
using ::testing::ElementsAre;
using testing::FakeChatTemplate;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::ManualService;
using testing::TestClient;

class ApiServerTest : public ::testing::Test {
 protected:
  void start() {
    options_.http.address = "127.0.0.1";
    options_.http.port = 0;
    options_.api.served_names = {"m"};
    server_ = std::make_unique<ApiServer>(options_, hooks(), &probe_);
    port_ = server_->start().value();
  }
  void serve() {
    server_->serve({.generation = service_,
                    .tokenizer = tokenizer_,
                    .chat_template = &template_,
                    .max_model_len = 100'000,
                    .vocab_size = tokenizer_.vocab_size()});
  }
  StatusHooks hooks() {
    return {.readiness =
                [] {
                  return Readiness{true, "ready"};
                },
            .scrape = [this] { return registry_.scrape(); },
            .version = "1"};
  }
  void wait_for_requests(size_t count) {
    ASSERT_TRUE(becomes([&] { return service_.num_requests() >= count; }));
  }
  template <typename Predicate>
  static bool becomes(const Predicate& predicate) {
    for (int i = 0; i < 20'000; ++i) {
      if (predicate()) return true;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return false;
  }

  ApiOptions options_;
  monitoring::Registry registry_;
  monitoring::HttpProbe probe_{registry_};
  ManualService service_;
  FakeTokenizer tokenizer_;
  FakeChatTemplate template_;
  uint16_t port_ = 0;
  std::unique_ptr<ApiServer> server_;  // last: ends before what it uses
};

TEST_F(ApiServerTest, ListensBeforeThereIsAModel) {
  start();
  TestClient client(port_);
  EXPECT_EQ(client.get("/health/live").status, 200);
  EXPECT_EQ(client.get("/health/ready").status, 503);
  EXPECT_EQ(client.post("/v1/completions", R"({"prompt": "a"})").status, 503);
  serve();
  EXPECT_TRUE(becomes([&] { return client.get("/health/ready").status == 200; }));
  EXPECT_EQ(client.get("/v1/models").status, 200);
}

TEST_F(ApiServerTest, StreamsTokensAsTheyCome) {
  start();
  serve();
  TestClient client(port_);
  client.send_request("POST", "/v1/completions", R"({"prompt": "a", "stream": true})");
  wait_for_requests(1);
  service_.say(0, "first");
  client.receive_until("\"text\":\"first\"");
  service_.say(0, "second", FinishReason::kStop);
  client.receive_until("\"text\":\"second\"");
  client.receive_until("data: [DONE]\n\n\r\n0\r\n\r\n");
  EXPECT_EQ(client.get("/health").status, 200);  // the connection is kept
}

TEST_F(ApiServerTest, AnswersWhole) {
  start();
  serve();
  TestClient client(port_);
  client.send_request("POST", "/v1/chat/completions",
                      R"({"messages": [{"role": "user", "content": "a"}]})");
  wait_for_requests(1);
  service_.say(0, "yes", FinishReason::kStop);
  const ClientResponse response = client.receive();
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.body, HasSubstr(R"("content":"yes")"));
  EXPECT_THAT(TestClient(port_).get("/metrics").body,
              HasSubstr(R"(http_requests_total{handler="/v1/chat/completions",method="POST",)"
                        R"(status="200"} 1)"));
}

TEST_F(ApiServerTest, ADisconnectCancelsWhileWaitingAndWhileStreaming) {
  start();
  serve();
  {
    TestClient waiting(port_);
    waiting.send_request("POST", "/v1/completions", R"({"prompt": "a"})");
    wait_for_requests(1);
  }
  EXPECT_TRUE(becomes([&] { return service_.cancelled().size() == 1; }));
  {
    TestClient streaming(port_);
    streaming.send_request("POST", "/v1/completions", R"({"prompt": "a", "stream": true})");
    wait_for_requests(2);
    service_.say(1, "x");
    streaming.receive_until("\"text\":\"x\"");
  }
  EXPECT_TRUE(becomes([&] { return service_.cancelled().size() == 2; }));
  EXPECT_THAT(service_.cancelled(), ElementsAre(0u, 1u));
  service_.say(1, "late", FinishReason::kStop);
  EXPECT_EQ(TestClient(port_).get("/health").status, 200);
}

TEST_F(ApiServerTest, ASlowReaderIsCancelled) {
  options_.http.max_unsent_bytes = 64 << 10;
  options_.http.socket_send_bytes = 4096;
  start();
  serve();
  TestClient client(port_, 4096);
  client.send_request("POST", "/v1/completions", R"({"prompt": "a", "stream": true})");
  wait_for_requests(1);
  for (int i = 0; i < 1000 && service_.cancelled().empty(); ++i) {
    service_.say(0, std::string(1000, 'x'));
  }
  EXPECT_TRUE(becomes([&] { return service_.cancelled().size() == 1; }));
}

TEST_F(ApiServerTest, FaultsOfHttpHaveOpenAisShapeToo) {
  options_.http.request_limits.body_bytes = 100;
  options_.http.read_timeout = milliseconds(100);
  start();
  serve();
  TestClient large(port_), half(port_), garbage(port_);
  EXPECT_THAT(large.post("/v1/completions", std::string(101, ' ')).body,
              HasSubstr(R"({"error":{"message":"request body over the limit of 100 bytes")"));
  half.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{");
  const ClientResponse timed_out = half.receive();
  EXPECT_EQ(timed_out.status, 408);
  EXPECT_THAT(timed_out.body, HasSubstr(R"({"error":{"message":)"));
  garbage.send("\r\n\r\n\x01\x02\r\n\r\n");
  EXPECT_EQ(garbage.receive().status, 400);
}

TEST_F(ApiServerTest, KeysAreAskedFor) {
  options_.api.api_keys = {"secret"};
  start();
  serve();
  TestClient client(port_);
  EXPECT_EQ(client.get("/v1/models").status, 401);
  client.send_request("GET", "/v1/models", "", "Authorization: Bearer secret\r\n");
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_EQ(client.get("/metrics").status, 200);
}

TEST_F(ApiServerTest, BrowsersAreAllowedOnlyWhereSaidSo) {
  options_.api.allow_cors = true;
  start();
  TestClient client(port_);
  EXPECT_EQ(client.get("/health/live").headers.at("Access-Control-Allow-Origin"), "*");
}

TEST_F(ApiServerTest, DrainsBeforeItStops) {
  start();
  serve();
  TestClient busy(port_), late(port_);
  busy.send_request("POST", "/v1/completions", R"({"prompt": "a", "stream": true})");
  wait_for_requests(1);
  service_.say(0, "begun");
  busy.receive_until("begun");
  // Its request is half sent when the drain begins, so that its connection is not idle.
  late.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 15\r\n\r\n{\"prompt\"");
  // One thread reads all: what came before this has been read when this is answered.
  EXPECT_EQ(TestClient(port_).get("/health").status, 200);
  bool drained = false;
  std::jthread stopper([&] { drained = server_->stop(seconds(20)); });
  ASSERT_TRUE(becomes([&] {
    try {
      TestClient refused(port_);
      return false;
    } catch (const std::runtime_error&) {
      return true;
    }
  }));
  late.send(": \"a\"}");
  const ClientResponse refused = late.receive();
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, HasSubstr("draining"));
  service_.say(0, "ended", FinishReason::kStop);
  busy.receive_until("data: [DONE]");
  stopper.join();
  EXPECT_TRUE(drained);
  EXPECT_TRUE(service_.cancelled().empty());
}

TEST_F(ApiServerTest, WhatDoesNotEndInTimeIsCancelled) {
  start();
  serve();
  TestClient busy(port_);
  busy.send_request("POST", "/v1/completions", R"({"prompt": "a"})");
  wait_for_requests(1);
  EXPECT_FALSE(server_->stop(milliseconds(20)));
  EXPECT_THAT(service_.cancelled(), ElementsAre(0u));
}

TEST_F(ApiServerTest, TheServiceMaySpeakAfterTheServersEnd) {
  start();
  serve();
  TestClient busy(port_);
  busy.send_request("POST", "/v1/completions", R"({"prompt": "a"})");
  wait_for_requests(1);
  server_.reset();
  service_.say(0, "late", FinishReason::kStop);
}

TEST_F(ApiServerTest, TheStatusServerKnowsOnlyStatus) {
  HttpServerOptions options;
  options.address = "127.0.0.1";
  options.port = 0;
  StatusServer server(options, hooks(), &probe_);
  TestClient client(server.start().value());
  EXPECT_EQ(client.get("/health").status, 200);
  EXPECT_THAT(client.get("/metrics").body, HasSubstr("process_open_fds"));
  EXPECT_EQ(client.get("/v1/models").status, 404);
  EXPECT_EQ(client.post("/health", "").status, 404);
}

}  // namespace
}  // namespace pregate::coordinator
