#include "coordinator/api/api_error.h"

#include <boost/json.hpp>

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

std::string_view type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

json::value text_or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

/// Seconds. A full queue moves soon; a model that loads or a worker that is gone takes longer.
const char* retry_after(int status) { return status == 429 ? "1" : "5"; }

}  // namespace

tl::unexpected<ApiError> invalid_field(std::string_view param, std::string message) {
  return tl::unexpected(ApiError{400, std::move(message), std::string(param)});
}

ApiError to_api_error(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      return {400, error.message};
    case ErrorCode::kNotFound:
      return {404, error.message};
    case ErrorCode::kResourceExhausted:
      return {429, error.message, "", "queue_full"};
    case ErrorCode::kUnavailable:
    case ErrorCode::kDeadlineExceeded:
      return {503, error.message, "", "unavailable"};
    case ErrorCode::kUnimplemented:
      return {501, error.message};
    default:
      return {500, error.message, "", "internal_error"};
  }
}

ApiError to_api_error(const RequestFault& fault) { return {fault.status, fault.message}; }

std::string error_body(const ApiError& error) {
  const json::value body = {{"error",
                             {{"message", error.message},
                              {"type", type_of(error.status)},
                              {"param", text_or_null(error.param)},
                              {"code", text_or_null(error.code)}}}};
  return json::serialize(body);
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response{.status = error.status, .headers = {}, .body = error_body(error)};
  if (error.status == 429 || error.status == 503) {
    response.headers.emplace_back("Retry-After", retry_after(error.status));
  }
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace pregate::coordinator
