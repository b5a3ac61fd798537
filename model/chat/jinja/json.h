// json.dumps, as the tojson filter of transformers calls it.
#pragma once

#include <optional>
#include <string>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  ///< Of one level; none: all on one line.
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

std::string to_json(const Value& value, const JsonStyle& style);

}  // namespace pregate::model::jinja
