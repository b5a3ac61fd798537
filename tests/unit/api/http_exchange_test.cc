#include "coordinator/api/http_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

HttpRequest get(const std::string& method = "GET") {
  HttpRequest request;
  request.method = method;
  return request;
}

class HttpExchangeTest : public ::testing::Test {
 protected:
  ConnectionExchange make(HttpRequest request) {
    return ConnectionExchange(std::move(request), options_, [this] { ++wakes_; });
  }
  HttpServerOptions options_;
  int wakes_ = 0;
};

TEST_F(HttpExchangeTest, SendsAnAnswerWithTheCommonHeaders) {
  options_.common_headers = {{"X-Common", "1"}};
  auto exchange = make(get());
  EXPECT_FALSE(exchange.ended());
  exchange.respond({.status = 404, .headers = {}, .body = "gone"});
  EXPECT_TRUE(exchange.ended());
  EXPECT_EQ(exchange.status(), 404);
  EXPECT_EQ(wakes_, 1);
  const std::string bytes = exchange.take_unsent();
  EXPECT_THAT(bytes, HasSubstr("X-Common: 1\r\n"));
  EXPECT_THAT(bytes, EndsWith("\r\n\r\ngone"));
  EXPECT_EQ(exchange.take_unsent(), "");
}

TEST_F(HttpExchangeTest, HeadGetsNoBody) {
  auto exchange = make(get("HEAD"));
  exchange.respond({.headers = {}, .body = "body"});
  const std::string bytes = exchange.take_unsent();
  EXPECT_THAT(bytes, HasSubstr("Content-Length: 4\r\n"));
  EXPECT_THAT(bytes, EndsWith("\r\n\r\n"));
}

TEST_F(HttpExchangeTest, StreamsInChunks) {
  auto exchange = make(get());
  exchange.begin_stream({.headers = {}, .body = ""});
  EXPECT_THAT(exchange.take_unsent(), HasSubstr("Transfer-Encoding: chunked"));
  exchange.write("abc");
  EXPECT_EQ(exchange.take_unsent(), "3\r\nabc\r\n");
  EXPECT_FALSE(exchange.ended());
  exchange.end_stream(true);
  EXPECT_EQ(exchange.take_unsent(), "0\r\n\r\n");
  EXPECT_TRUE(exchange.ended());
  EXPECT_TRUE(exchange.keep_alive());
}

TEST_F(HttpExchangeTest, AnIncompleteStreamEndsTheConnection) {
  auto exchange = make(get());
  exchange.begin_stream({.headers = {}, .body = ""});
  exchange.end_stream(false);
  EXPECT_FALSE(exchange.keep_alive());
}

TEST_F(HttpExchangeTest, StreamsToAnOldClientUntilTheConnectionEnds) {
  HttpRequest request = get();
  request.http_1_0 = true;
  auto exchange = make(request);
  exchange.begin_stream({.headers = {}, .body = ""});
  EXPECT_THAT(exchange.take_unsent(), Not(HasSubstr("chunked")));
  exchange.write("abc");
  exchange.end_stream(true);
  EXPECT_EQ(exchange.take_unsent(), "abc");
  EXPECT_FALSE(exchange.keep_alive());
}

TEST_F(HttpExchangeTest, GivesUpWhenThePeerTakesNothing) {
  options_.max_unsent_bytes = 1000;
  auto exchange = make(get());
  int abandoned = 0;
  exchange.on_abandoned([&] { ++abandoned; });
  exchange.begin_stream({.headers = {}, .body = ""});
  exchange.write(std::string(400, 'x'));
  exchange.take_unsent();  // on its way, and not arrived
  exchange.write(std::string(400, 'x'));
  EXPECT_FALSE(exchange.abandoned());
  exchange.write(std::string(400, 'x'));
  EXPECT_TRUE(exchange.abandoned());
  EXPECT_EQ(abandoned, 1);
  exchange.write("more");
  exchange.end_stream(true);
  EXPECT_EQ(abandoned, 1);
}

TEST_F(HttpExchangeTest, NobodyIsToldAfterTheEnd) {
  auto exchange = make(get());
  int abandoned = 0;
  exchange.on_abandoned([&] { ++abandoned; });
  exchange.respond({.headers = {}, .body = ""});
  exchange.abandon();
  EXPECT_EQ(abandoned, 0);
  EXPECT_TRUE(exchange.abandoned());
}

TEST_F(HttpExchangeTest, AnswersAfterThePeerLeftAreDropped) {
  auto exchange = make(get());
  exchange.abandon();
  exchange.respond({.headers = {}, .body = "x"});
  EXPECT_EQ(exchange.take_unsent(), "");
}

}  // namespace
}  // namespace pregate::coordinator
