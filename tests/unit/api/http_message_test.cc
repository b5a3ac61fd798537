#include "coordinator/api/http_message.h"

#include <gtest/gtest.h>

namespace pregate::coordinator {
namespace {

TEST(SerializeHead, StatesLengthTypeAndConnection) {
  const HttpResponse response{.status = 404, .headers = {{"Retry-After", "1"}}, .body = "abc"};
  EXPECT_EQ(serialize_head({response, BodyFraming::kLength, false}),
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 3\r\n"
            "Retry-After: 1\r\nConnection: close\r\n\r\n");
}

TEST(SerializeHead, NoLengthForAStreamAndNoBodyHeadersFor204) {
  const HttpResponse stream{.content_type = "text/event-stream", .headers = {}, .body = ""};
  EXPECT_EQ(serialize_head({stream, BodyFraming::kChunked, true}),
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            "Connection: keep-alive\r\n\r\n");
  EXPECT_EQ(serialize_head({stream, BodyFraming::kUntilClose, false}),
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
  const HttpResponse empty{.status = 204, .headers = {}, .body = ""};
  EXPECT_EQ(serialize_head({empty, BodyFraming::kLength, true}),
            "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n");
}

TEST(ChunkOf, HasItsLengthInHexadecimal) {
  EXPECT_EQ(chunk_of(std::string(26, 'x')), "1a\r\n" + std::string(26, 'x') + "\r\n");
}

TEST(PercentDecode, DecodesPairsAndLeavesTheRest) {
  EXPECT_EQ(percent_decode("/v1/models/a%2Fb%20c"), "/v1/models/a/b c");
  EXPECT_EQ(percent_decode("100%"), "100%");
  EXPECT_EQ(percent_decode("%4"), "%4");
  EXPECT_EQ(percent_decode("%zz%41"), "%zzA");
}

}  // namespace
}  // namespace pregate::coordinator
