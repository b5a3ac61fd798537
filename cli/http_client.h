// One HTTP request and its answer, for commands that talk to a running coordinator.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"

namespace pregate::cli {

/// Where a server is: "http://HOST[:PORT]". IPv6 hosts stand in brackets.
struct HttpUrl {
  std::string host;  ///< Without brackets.
  std::string port = "80";
};

/// kInvalidArgument says what was expected; kUnimplemented for https.
Result<HttpUrl> parse_url(const std::string& text);

struct HttpCall {
  std::string method = "GET";
  std::string path;
  std::string bearer;  ///< Sent as "Authorization: Bearer ..."; empty: no such header.
  std::string body;
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};

/// Blocks, at most `timeout` for connecting and as long again for the answer. kUnavailable: nobody
/// answers there; kDeadlineExceeded. Any status is an answer.
Result<HttpAnswer> http_exchange(const HttpUrl& url, const HttpCall& call,
                                 std::chrono::milliseconds timeout);

}  // namespace pregate::cli
