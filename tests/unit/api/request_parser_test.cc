#include "coordinator/api/request_parser.h"

#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

constexpr RequestLimits kLimits{.header_bytes = 512, .body_bytes = 16};

/// Feeds `bytes` in pieces of `step` until the parser is done or at fault; returns what is left.
std::string feed_all(RequestParser& parser, std::string bytes, size_t step) {
  std::string pending;
  while (!parser.done() && !parser.fault()) {
    pending.erase(0, parser.feed(pending));
    if (parser.done() || parser.fault() || bytes.empty()) break;
    pending += bytes.substr(0, step);
    bytes.erase(0, step);
  }
  return pending + bytes;
}

int fault_status(const std::string& bytes) {
  RequestParser parser(kLimits);
  feed_all(parser, bytes, 7);
  return parser.fault() ? parser.fault()->status : 0;
}

TEST(RequestParser, ReadsARequestWhateverThePieces) {
  for (const size_t step : {1u, 3u, 1000u}) {
    RequestParser parser(kLimits);
    const std::string rest = feed_all(parser,
                                      "POST /v1/x%20y?a=b HTTP/1.1\r\nHost: h\r\n"
                                      "Authorization: Bearer k\r\nContent-Length: 4\r\n\r\nbody"
                                      "GET /next",
                                      step);
    ASSERT_TRUE(parser.done());
    EXPECT_EQ(rest, "GET /next");
    const HttpRequest request = parser.take();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path, "/v1/x y");
    EXPECT_EQ(request.authorization, "Bearer k");
    EXPECT_EQ(request.body, "body");
    EXPECT_TRUE(request.keep_alive);
    EXPECT_FALSE(request.http_1_0);
  }
}

TEST(RequestParser, ReadsAChunkedBody) {
  RequestParser parser(kLimits);
  feed_all(parser,
           "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
           5);
  ASSERT_TRUE(parser.done());
  EXPECT_EQ(parser.take().body, "abcd");
}

TEST(RequestParser, KnowsWhenTheConnectionEnds) {
  RequestParser close(kLimits);
  feed_all(close, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 100);
  EXPECT_FALSE(close.take().keep_alive);
  RequestParser old(kLimits);
  feed_all(old, "GET / HTTP/1.0\r\n\r\n", 100);
  const HttpRequest request = old.take();
  EXPECT_TRUE(request.http_1_0);
  EXPECT_FALSE(request.keep_alive);
}

TEST(RequestParser, RefusesABodyOverTheLimitBeforeItComes) {
  EXPECT_EQ(fault_status("POST / HTTP/1.1\r\nContent-Length: 17\r\n\r\n"), 413);
  EXPECT_EQ(fault_status("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                         "11\r\n12345678901234567\r\n0\r\n\r\n"),
            413);
}

TEST(RequestParser, RefusesAnEndlessHeader) {
  EXPECT_EQ(fault_status("GET / HTTP/1.1\r\nX: " + std::string(600, 'x')), 431);
}

TEST(RequestParser, RefusesWhatIsNotHttp) {
  EXPECT_EQ(fault_status("hello there\r\n\r\n"), 400);
  EXPECT_EQ(fault_status("GET / HTTP/1.1\r\nbad header\r\n\r\n"), 400);
  EXPECT_EQ(fault_status("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(fault_status("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400);
  EXPECT_EQ(fault_status(std::string("\x16\x03\x01\x02\x00\x01", 6) + "\r\n\r\n"), 400);
}

TEST(RequestParser, AsksForTheContinueAnswerOnce) {
  RequestParser parser(kLimits);
  const std::string head = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
  EXPECT_FALSE(parser.wants_continue());
  EXPECT_EQ(parser.feed(head), head.size());
  EXPECT_TRUE(parser.wants_continue());
  EXPECT_FALSE(parser.wants_continue());
  EXPECT_EQ(parser.feed("ab"), 2u);
  EXPECT_TRUE(parser.done());
}

}  // namespace
}  // namespace pregate::coordinator
