// Numbers and strings as written in templates.
#pragma once

#include <string>
#include <string_view>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

struct NumberLiteral {
  Value value;
  size_t size_bytes;
};
/// The number at the beginning of the text. Raises where there is none, or one that is too large.
NumberLiteral read_number(std::string_view text, int line);

/// What a string literal between its quotes means: escapes as in Python.
std::string unescape(std::string_view text, int line);

}  // namespace pregate::model::jinja
