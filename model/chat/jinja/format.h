// Python's two ways to format text.
#pragma once

#include <string>
#include <string_view>

#include "model/chat/jinja/arguments.h"
#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

/// format % values: a tuple, a dict for "%(name)s", or a single value.
Value format_percent(std::string_view format, const Value& values);
/// format.format(*positional, **keywords).
Value format_braces(std::string_view format, const Arguments& arguments);

}  // namespace pregate::model::jinja
