// Errors as OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <string>

#include <tl/expected.hpp>

#include "base/result.h"
#include "coordinator/api/http_message.h"
#include "coordinator/api/request_parser.h"

namespace pregate::coordinator {

struct ApiError {
  int status = 400;
  std::string message;
  std::string param = {};  ///< The field at fault; empty: none.
  std::string code = {};   ///< A word for programs, such as "model_not_found"; empty: none.
};

template <typename T>
using ApiResult = tl::expected<T, ApiError>;

tl::unexpected<ApiError> invalid_field(std::string_view param, std::string message);

/// What the rest of the program says, in the terms of HTTP.
ApiError to_api_error(const Error& error);
ApiError to_api_error(const RequestFault& fault);

/// {"error": {...}} as text; also what an error in mid-stream looks like.
std::string error_body(const ApiError& error);
/// With Retry-After where trying again makes sense.
HttpResponse error_response(const ApiError& error);

}  // namespace pregate::coordinator
