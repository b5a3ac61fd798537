// Values as Python prints them.
#pragma once

#include <string>
#include <string_view>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

/// str(value): what {{ value }} prints.
std::string str(const Value& value);
/// repr(value): what values look like within a printed list.
std::string repr(const Value& value);
std::string repr_text(std::string_view text);

}  // namespace pregate::model::jinja
