// The server against peers that behave and peers that do not, over real sockets.
#include "coordinator/api/http_server.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "monitoring/metrics/registry.h"
#include "tests/unit/api/test_client.h"

namespace pregate::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ClientResponse;
using ::testing::HasSubstr;
using testing::TestClient;

/// "/now" is answered at once with the request's body; anything else is held for the test.
class HttpServerTest : public ::testing::Test {
 protected:
  ~HttpServerTest() override { held_.clear(); }

  void start() {
    options_.address = "127.0.0.1";
    options_.port = 0;
    server_ = std::make_unique<HttpServer>(
        options_, [this](const std::shared_ptr<HttpExchange>& exchange) { handle(exchange); },
        &probe_);
    port_ = server_->start().value();
  }

  void handle(const std::shared_ptr<HttpExchange>& exchange) {
    if (exchange->request().path == "/now") {
      return exchange->respond(
          {.content_type = "text/plain", .headers = {}, .body = exchange->request().body});
    }
    exchange->on_abandoned([this] { ++num_abandoned_; });
    const std::lock_guard lock(mutex_);
    held_.push_back(exchange);
    ++num_held_;
  }

  /// Runs `task` with the last held exchange on the I/O thread.
  void with_held(std::function<void(HttpExchange&)> task) {
    ASSERT_TRUE(becomes([this] { return num_held_ > 0; }));
    std::shared_ptr<HttpExchange> exchange;
    {
      const std::lock_guard lock(mutex_);
      exchange = held_.back();
    }
    server_->io_post()([exchange, task = std::move(task)] { task(*exchange); });
  }

  template <typename Predicate>
  static bool becomes(const Predicate& predicate) {
    for (int i = 0; i < 20'000; ++i) {
      if (predicate()) return true;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return false;
  }

  monitoring::Registry registry_;
  monitoring::HttpProbe probe_{registry_};
  HttpServerOptions options_;
  uint16_t port_ = 0;
  std::atomic<int> num_abandoned_{0};
  std::atomic<int> num_held_{0};
  std::mutex mutex_;
  std::vector<std::shared_ptr<HttpExchange>> held_;  // guarded by mutex_
  std::unique_ptr<HttpServer> server_;               // last: ends before what it uses
};

TEST_F(HttpServerTest, KeepsConnectionsForManyRequests) {
  start();
  TestClient client(port_);
  for (const char* text : {"one", "two", "three"}) {
    const ClientResponse response = client.post("/now", text);
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, text);
    EXPECT_EQ(response.headers.at("Connection"), "keep-alive");
  }
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  start();
  TestClient client(port_);
  std::string all;
  for (int i = 0; i < 50; ++i) {
    all += "POST /now HTTP/1.1\r\nContent-Length: 2\r\n\r\n" + std::to_string(10 + i);
  }
  client.send(all);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.receive().body, std::to_string(10 + i));
}

TEST_F(HttpServerTest, ClosesWhenAskedTo) {
  start();
  TestClient polite(port_), old(port_);
  polite.send_request("GET", "/now", "", "Connection: close\r\n");
  EXPECT_EQ(polite.receive().headers.at("Connection"), "close");
  EXPECT_TRUE(polite.closed_by_server());
  old.send("GET /now HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.receive().status, 200);
  EXPECT_TRUE(old.closed_by_server());
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  start();
  TestClient client(port_);
  client.send_request("HEAD", "/now", "abc");
  EXPECT_EQ(client.receive(true).headers.at("Content-Length"), "3");
  EXPECT_EQ(client.post("/now", "next").body, "next");
}

TEST_F(HttpServerTest, StreamsInChunks) {
  start();
  TestClient client(port_);
  client.send_request("GET", "/hold");
  with_held([](HttpExchange& exchange) {
    exchange.begin_stream({.content_type = "text/event-stream", .headers = {}, .body = ""});
    exchange.write("first");
  });
  EXPECT_THAT(client.receive_until("first"), HasSubstr("chunked"));
  with_held([](HttpExchange& exchange) {
    exchange.write("second");
    exchange.end_stream(true);
  });
  EXPECT_THAT(client.receive_until("0\r\n\r\n"), HasSubstr("6\r\nsecond"));
  EXPECT_EQ(client.post("/now", "next").body, "next");
}

TEST_F(HttpServerTest, SaysContinueToThoseWhoWait) {
  start();
  TestClient client(port_);
  client.send("POST /now HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.receive_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ab");
  EXPECT_EQ(client.receive().body, "ab");
}

TEST_F(HttpServerTest, AnswersGarbageAndCloses) {
  start();
  TestClient client(port_);
  client.send("this is not HTTP\r\n\r\n");
  EXPECT_EQ(client.receive().status, 400);
  EXPECT_TRUE(client.closed_by_server());
}

TEST_F(HttpServerTest, AHalfSentRequestTimesOut) {
  options_.read_timeout = milliseconds(100);
  start();
  TestClient in_header(port_), in_body(port_);
  in_header.send("POST /now HTT");
  in_body.send("POST /now HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(in_header.receive().status, 408);
  EXPECT_TRUE(in_header.closed_by_server());
  EXPECT_EQ(in_body.receive().status, 408);
}

TEST_F(HttpServerTest, AnIdleConnectionIsClosedSilently) {
  options_.idle_timeout = milliseconds(50);
  start();
  TestClient silent(port_);
  EXPECT_TRUE(silent.closed_by_server());
  // A client that is held up before its request has been idle too: then another one tries.
  EXPECT_TRUE(becomes([this] {
    TestClient after_one(port_);
    try {
      EXPECT_EQ(after_one.post("/now", "x").status, 200);
    } catch (const std::runtime_error&) {
      return false;
    }
    return after_one.closed_by_server();
  }));
}

TEST_F(HttpServerTest, ATooLargeBodyIsAnsweredWhileItIsStillBeingSent) {
  options_.request_limits.body_bytes = 1000;
  start();
  TestClient client(port_);
  client.send("POST /now HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n");
  client.send(std::string(3'000'000, 'x'));
  EXPECT_EQ(client.receive().status, 413);
  TestClient within(port_);
  EXPECT_EQ(within.post("/now", std::string(1000, 'x')).status, 200);
}

TEST_F(HttpServerTest, ATooLongHeaderIsRefused) {
  start();
  TestClient client(port_);
  client.send("GET /now HTTP/1.1\r\nX-Long: " + std::string(20'000, 'x') + "\r\n\r\n");
  EXPECT_EQ(client.receive().status, 431);
}

TEST_F(HttpServerTest, NoticesAPeerThatLeavesWhileItWaits) {
  start();
  {
    TestClient client(port_);
    client.send_request("GET", "/hold");
    ASSERT_TRUE(becomes([this] { return num_held_ == 1; }));
    EXPECT_EQ(num_abandoned_, 0);
  }
  EXPECT_TRUE(becomes([this] { return num_abandoned_ == 1; }));
  EXPECT_TRUE(
      becomes([this] { return registry_.scrape().find("status=\"499\"") != std::string::npos; }));
}

TEST_F(HttpServerTest, NoticesAPeerThatLeavesWithARequestInThePipe) {
  start();
  {
    TestClient client(port_);
    client.send_request("GET", "/hold");
    client.send_request("GET", "/now");
    ASSERT_TRUE(becomes([this] { return num_held_ == 1; }));
    EXPECT_EQ(num_abandoned_, 0);
  }
  EXPECT_TRUE(becomes([this] { return num_abandoned_ == 1; }));
}

TEST_F(HttpServerTest, NoticesAPeerThatLeavesInMidStream) {
  start();
  {
    TestClient client(port_);
    client.send_request("GET", "/hold");
    with_held([](HttpExchange& exchange) {
      exchange.begin_stream({.headers = {}, .body = ""});
      exchange.write("x");
    });
    client.receive_until("x");
  }
  EXPECT_TRUE(becomes([this] { return num_abandoned_ == 1; }));
}

TEST_F(HttpServerTest, ASlowReaderIsCutWhenTooMuchIsUnsent) {
  options_.max_unsent_bytes = 100'000;
  options_.socket_send_bytes = 4096;
  start();
  TestClient client(port_, 4096);
  client.send_request("GET", "/hold");
  with_held([](HttpExchange& exchange) { exchange.begin_stream({.headers = {}, .body = ""}); });
  for (int i = 0; i < 1000 && num_abandoned_ == 0; ++i) {
    with_held([](HttpExchange& exchange) { exchange.write(std::string(10'000, 'x')); });
  }
  EXPECT_TRUE(becomes([this] { return num_abandoned_ == 1; }));
}

TEST_F(HttpServerTest, ASlowReaderIsCutAtTheWriteDeadline) {
  options_.write_timeout = milliseconds(100);
  options_.max_unsent_bytes = 100 << 20;
  options_.socket_send_bytes = 4096;
  start();
  TestClient client(port_, 4096);
  client.send_request("GET", "/hold");
  with_held([](HttpExchange& exchange) {
    exchange.begin_stream({.headers = {}, .body = ""});
    exchange.write(std::string(10 << 20, 'x'));
  });
  EXPECT_TRUE(becomes([this] { return num_abandoned_ == 1; }));
}

TEST_F(HttpServerTest, AThousandIdleConnectionsAreNoTrouble) {
  start();
  std::vector<TestClient> idle;
  for (int i = 0; i < 1000; ++i) idle.emplace_back(port_);
  TestClient client(port_);
  EXPECT_EQ(client.post("/now", "here").body, "here");
  EXPECT_EQ(idle[0].post("/now", "still").body, "still");
  EXPECT_EQ(idle[999].post("/now", "here").body, "here");
}

TEST_F(HttpServerTest, OneConnectionTooManyIsTurnedAway) {
  options_.max_connections = 2;
  start();
  TestClient first(port_);
  EXPECT_EQ(first.post("/now", "1").status, 200);
  {
    TestClient second(port_);
    EXPECT_EQ(second.post("/now", "2").status, 200);
    TestClient third(port_);
    const ClientResponse refused = third.receive();
    EXPECT_EQ(refused.status, 503);
    EXPECT_EQ(refused.headers.at("Retry-After"), "1");
    EXPECT_TRUE(third.closed_by_server());
  }
  EXPECT_TRUE(becomes([this] {
    TestClient again(port_);
    again.send_request("GET", "/now");
    return again.receive().status == 200;
  }));
}

TEST_F(HttpServerTest, StopLetsRunningAnswersEnd) {
  start();
  TestClient idle(port_), busy(port_);
  EXPECT_EQ(idle.post("/now", "x").status, 200);
  busy.send_request("GET", "/hold");
  ASSERT_TRUE(becomes([this] { return num_held_ == 1; }));
  std::atomic<bool> drained{false};
  std::jthread stopper([&] { drained = server_->stop(seconds(20)); });
  EXPECT_TRUE(idle.closed_by_server());
  EXPECT_THROW(TestClient{port_}, std::runtime_error);
  with_held([](HttpExchange& exchange) { exchange.respond({.headers = {}, .body = "done"}); });
  EXPECT_EQ(busy.receive().body, "done");
  EXPECT_TRUE(busy.closed_by_server());
  stopper.join();
  EXPECT_TRUE(drained);
  EXPECT_EQ(num_abandoned_, 0);
}

TEST_F(HttpServerTest, StopCutsWhatDoesNotEnd) {
  start();
  TestClient busy(port_);
  busy.send_request("GET", "/hold");
  ASSERT_TRUE(becomes([this] { return num_held_ == 1; }));
  EXPECT_FALSE(server_->stop(milliseconds(50)));
  EXPECT_EQ(num_abandoned_, 1);
  EXPECT_TRUE(busy.closed_by_server());
}

TEST_F(HttpServerTest, StopsWithoutEverHavingHadAConnection) {
  start();
  EXPECT_TRUE(server_->stop(seconds(20)));
}

TEST_F(HttpServerTest, TasksAfterTheEndAreDropped) {
  start();
  const IoPost post = server_->io_post();
  server_.reset();
  post([] { FAIL() << "ran"; });
}

TEST_F(HttpServerTest, SaysWhyItCannotListen) {
  start();
  HttpServerOptions taken = options_;
  taken.port = port_;
  HttpServer second(
      taken, [](const auto&) {}, nullptr);
  EXPECT_THAT(second.start().error().message, HasSubstr(std::to_string(port_)));
  HttpServerOptions bad = options_;
  bad.address = "not-an-address";
  HttpServer third(
      bad, [](const auto&) {}, nullptr);
  EXPECT_THAT(third.start().error().message, HasSubstr("not-an-address"));
}

}  // namespace
}  // namespace pregate::coordinator
