// Numbers and strings as written in templates.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

struct NumberLiteral {
  Value value;
  size_t size_bytes;
};
/// The number at the beginning of the text, if there is one. Raises for one that is too large.
std::optional<NumberLiteral> read_number(std::string_view text, int line);

/// What a string literal between its quotes means: escapes as in Python.
std::string unescape(std::string_view text, int line);

}  // namespace pregate::model::jinja
