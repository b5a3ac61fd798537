#include "cli/http_client.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace pregate::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

constexpr size_t kMaxAnswerBytes = size_t{64} << 20;

std::string name_of(const HttpUrl& url) { return fmt::format("http://{}:{}", url.host, url.port); }

/// Beast's timeouts are for asynchronous calls only: each step is one, and the loop runs until it
/// has ended.
class Exchange {
 public:
  Exchange(const HttpUrl& url, std::chrono::milliseconds timeout)
      : url_(url), timeout_(timeout), stream_(io_) {}

  Result<HttpAnswer> run(const HttpCall& call) {
    PREGATE_TRY(connect());
    const auto request = make_request(call);
    PREGATE_TRY(step([&](auto done) {
      http::async_write(stream_, request, [done](beast::error_code error, size_t) { done(error); });
    }));
    http::response_parser<http::string_body> parser;
    parser.body_limit(kMaxAnswerBytes);
    PREGATE_TRY(step([&](auto done) {
      http::async_read(stream_, buffer_, parser,
                       [done](beast::error_code error, size_t) { done(error); });
    }));
    return HttpAnswer{.status = static_cast<int>(parser.get().result_int()),
                      .body = std::move(parser.get().body())};
  }

 private:
  Status connect() {
    tcp::resolver resolver(io_);
    beast::error_code error;
    const auto addresses = resolver.resolve(url_.host, url_.port, error);
    if (error) return describe(error);
    return step([&](auto done) {
      stream_.async_connect(addresses,
                            [done](beast::error_code e, const tcp::endpoint&) { done(e); });
    });
  }

  http::request<http::string_body> make_request(const HttpCall& call) const {
    http::request<http::string_body> request;
    request.method_string(call.method);
    request.target(call.path);
    request.version(11);
    request.set(http::field::host, fmt::format("{}:{}", url_.host, url_.port));
    request.set(http::field::connection, "close");
    if (!call.bearer.empty()) request.set(http::field::authorization, "Bearer " + call.bearer);
    if (!call.body.empty()) request.set(http::field::content_type, "application/json");
    request.body() = call.body;
    request.prepare_payload();
    return request;
  }

  template <typename Begin>
  Status step(const Begin& begin) {
    beast::error_code result;
    stream_.expires_after(timeout_);
    begin([&result](beast::error_code error) { result = error; });
    io_.restart();
    io_.run();
    if (result) return describe(result);
    return {};
  }

  Status describe(const beast::error_code& error) const {
    if (error == beast::error::timeout) {
      return fail(ErrorCode::kDeadlineExceeded, "{}: no answer within {} ms", name_of(url_),
                  timeout_.count());
    }
    return fail(ErrorCode::kUnavailable, "{}: {}", name_of(url_), error.message());
  }

  const HttpUrl& url_;
  const std::chrono::milliseconds timeout_;
  asio::io_context io_{1};
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
};

tl::unexpected<Error> bad_url(const std::string& text) {
  return fail(ErrorCode::kInvalidArgument, "{}: expected a URL like http://127.0.0.1:8000", text);
}

}  // namespace

Result<HttpUrl> parse_url(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  if (text.starts_with("https://")) {
    return fail(
        ErrorCode::kUnimplemented,
        "{}: https is not spoken here; use http on the coordinator's host, or over a tunnel", text);
  }
  if (!text.starts_with(kScheme)) return bad_url(text);
  std::string rest = text.substr(kScheme.size());
  if (rest.ends_with('/')) rest.pop_back();
  const bool bracketed = rest.starts_with('[');
  const size_t host_end = bracketed ? rest.find(']') : rest.find(':');
  if (bracketed && host_end == std::string::npos) return bad_url(text);
  HttpUrl url{.host = bracketed ? rest.substr(1, host_end - 1) : rest.substr(0, host_end)};
  const size_t colon = rest.find(':', bracketed ? host_end : 0);
  if (colon != std::string::npos) url.port = rest.substr(colon + 1);
  const bool port_ok = !url.port.empty() && url.port.size() <= 5 &&
                       url.port.find_first_not_of("0123456789") == std::string::npos;
  if (url.host.empty() || !port_ok || url.host.find('/') != std::string::npos) return bad_url(text);
  return url;
}

Result<HttpAnswer> http_exchange(const HttpUrl& url, const HttpCall& call,
                                 std::chrono::milliseconds timeout) {
  return Exchange(url, timeout).run(call);
}

}  // namespace pregate::cli
