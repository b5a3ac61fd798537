// An HTTP request and its answer as plain values.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pregate::coordinator {

struct HttpRequest {
  std::string method;  ///< As sent: "GET", "POST", ...
  std::string path;    ///< Percent-decoded, without the query.
  std::string authorization;
  std::string body;
  bool http_1_0 = false;  ///< The peer knows no chunked answers.
  bool keep_alive = true;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;  ///< Without type and length.
  std::string body;
};

enum class BodyFraming { kLength, kChunked, kUntilClose };

struct ResponseHead {
  const HttpResponse& response;
  BodyFraming framing = BodyFraming::kLength;
  bool keep_alive = true;
};

/// Status line and headers, with the empty line; the body is not included.
std::string serialize_head(const ResponseHead& head);
/// One chunk of the chunked transfer coding (RFC 9112, section 7.1). `data` must not be empty.
std::string chunk_of(std::string_view data);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

/// "%2F" becomes "/"; a stray % stays as it is.
std::string percent_decode(std::string_view text);

}  // namespace pregate::coordinator
