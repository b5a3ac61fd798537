// The live page: its files need no key, the data that it reads (/live) does.
#pragma once

#include <optional>
#include <string_view>

#include "coordinator/api/http_message.h"

namespace pregate::coordinator {

bool is_page_path(std::string_view path);

/// The answer to a GET of `path`, if it is one of the page's files. Tells browsers that the page
/// loads, asks and is shown by nothing but this server.
std::optional<HttpResponse> answer_page(std::string_view path);

}  // namespace pregate::coordinator
