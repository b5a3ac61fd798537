#include "coordinator/api/request_parser.h"

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <fmt/format.h>

namespace pregate::coordinator {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

RequestFault fault_of(boost::system::error_code ec, const RequestLimits& limits) {
  if (ec == http::error::body_limit) {
    return {413, fmt::format("request body over the limit of {} bytes", limits.body_bytes)};
  }
  if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
    return {431, fmt::format("request header over the limit of {} bytes", limits.header_bytes)};
  }
  return {400, fmt::format("not a valid HTTP request: {}", ec.message())};
}

}  // namespace

struct RequestParser::Impl {
  explicit Impl(RequestLimits l) : limits(l) {
    parser.header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    parser.body_limit(limits.body_bytes);
    parser.eager(true);
  }

  const RequestLimits limits;
  http::request_parser<http::string_body> parser;
  std::optional<RequestFault> fault;
  bool continue_answered = false;
};

RequestParser::RequestParser(RequestLimits limits) : impl_(std::make_unique<Impl>(limits)) {}
RequestParser::~RequestParser() = default;

size_t RequestParser::feed(std::string_view input) {
  boost::system::error_code ec;
  const size_t taken = impl_->parser.put(asio::const_buffer(input.data(), input.size()), ec);
  if (ec && ec != http::error::need_more) impl_->fault = fault_of(ec, impl_->limits);
  return taken;
}

bool RequestParser::done() const { return impl_->parser.is_done(); }

const std::optional<RequestFault>& RequestParser::fault() const { return impl_->fault; }

bool RequestParser::wants_continue() {
  if (impl_->continue_answered || !impl_->parser.is_header_done() || done()) return false;
  impl_->continue_answered = true;
  return boost::beast::iequals(impl_->parser.get()[http::field::expect], "100-continue");
}

HttpRequest RequestParser::take() {
  auto message = impl_->parser.release();
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string_view target = message.target();
  request.path = percent_decode(target.substr(0, target.find('?')));
  request.authorization = std::string(message[http::field::authorization]);
  request.http_1_0 = message.version() < 11;
  request.keep_alive = message.keep_alive();
  request.body = std::move(message.body());
  return request;
}

}  // namespace pregate::coordinator
