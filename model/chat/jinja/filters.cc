// Filters of numbers and of single values, and the table of all.
#include "model/chat/jinja/filters.h"

#include <cmath>

#include "model/chat/jinja/attributes.h"
#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/json.h"
#include "model/chat/jinja/numbers.h"
#include "model/chat/jinja/operators.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

Value absolute(const Value& input, const Arguments& arguments) {
  const Bound bound("abs", arguments, {});
  if (const auto* number = input.as_float()) return std::abs(*number);
  const auto whole = as_whole_number(input);
  if (!whole) {
    require_defined(input);
    raise("bad operand type for abs(): '{}'", type_name(input));
  }
  return *whole < 0 ? negate(*whole) : Value(*whole);
}

Value attribute(const Value& input, const Arguments& arguments) {
  return get_attribute_only(input, Bound("attr", arguments, {"name"}, 1).text(0));
}

Value fallback(const Value& input, const Arguments& arguments) {
  const Bound bound("default", arguments, {"default_value", "boolean"});
  const bool replaces = input.is_undefined() || (bound.boolean(1, false) && !is_true(input));
  return replaces ? bound.value(0, "") : input;
}

Value to_integer(const Value& input, const Arguments& arguments) {
  const Bound bound("int", arguments, {"default", "base"});
  require_defined(input);
  const auto* text = input.as_text();
  if (text != nullptr) {
    if (const auto number = parse_integer(*text, bound.integer(1, 10))) {
      return *number;
    }
  } else if (const auto whole = as_whole_number(input)) {
    return *whole;
  }
  const auto number = text != nullptr ? parse_float(*text) : as_number(input);
  if (!number || !std::isfinite(*number)) return bound.value(0, 0);
  return truncate_to_integer(*number);
}

Value to_float(const Value& input, const Arguments& arguments) {
  const Bound bound("float", arguments, {"default"});
  require_defined(input);
  const auto number = input.as_text() != nullptr ? parse_float(*input.as_text()) : as_number(input);
  return number ? Value(*number) : bound.value(0, 0.0);
}

Value round_number(const Value& input, const Arguments& arguments) {
  const Bound bound("round", arguments, {"precision", "method"});
  const int64_t digits = bound.integer(0, 0);
  const std::string method = bound.text(1, "common");
  const auto number = as_number(input);
  if (!number) {
    require_defined(input);
    raise("type {} doesn't define __round__ method", type_name(input));
  }
  if (method == "common") {
    if (input.as_float() != nullptr) return round_float(*number, digits);
    return digits >= 0 ? Value(*as_whole_number(input))
                       : Value(truncate_to_integer(round_float(*number, digits)));
  }
  if (method != "ceil" && method != "floor") raise("method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = *number * scale;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

std::optional<std::string> indent_of(const Bound& bound, size_t index) {
  if (bound.is_none(index)) return std::nullopt;
  if (bound.value(index).as_text() != nullptr) return bound.text(index);
  return repeat(" ", bound.integer(index, 0));
}

std::string separator_of(const Value& separators, size_t index) {
  const std::vector<Value> parts = iterate(separators);
  if (parts.size() != 2 || parts[index].as_text() == nullptr) {
    raise("tojson(): separators must be two strings");
  }
  return *parts[index].as_text();
}

/// transformers replaces jinja2's filter by this one, which escapes nothing for HTML.
Value to_json_text(const Value& input, const Arguments& arguments) {
  const Bound bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.boolean(0, false);
  style.indent = indent_of(bound, 1);
  style.sort_keys = bound.boolean(3, false);
  style.item_separator = std::string(style.indent ? "," : ", ");
  if (!bound.is_none(2)) {
    style.item_separator = separator_of(bound.value(2), 0);
    style.key_separator = separator_of(bound.value(2), 1);
  }
  return to_json(input, style);
}

Value to_text(const Value& input, const Arguments& arguments) {
  const Bound bound("string", arguments, {});
  return str(input);
}

/// Nothing is escaped automatically in chat templates, so nothing needs to be marked as safe.
Value keep(const Value& input, const Arguments& arguments) {
  const Bound bound("safe", arguments, {});
  return str(input);
}

Value refuse_random(const Value&, const Arguments&) {
  raise("the filter 'random' is refused: a prompt must not depend on chance");
}

FilterTable make_filters() {
  FilterTable table = {
      {"abs", absolute},   {"attr", attribute}, {"d", fallback},           {"default", fallback},
      {"float", to_float}, {"int", to_integer}, {"random", refuse_random}, {"round", round_number},
      {"safe", keep},      {"string", to_text}, {"tojson", to_json_text},
  };
  add_text_filters(table);
  add_sequence_filters(table);
  return table;
}

}  // namespace

const FilterTable& filters() {
  static const FilterTable table = make_filters();
  return table;
}

Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments) {
  const auto place = filters().find(name);
  if (place == filters().end()) raise("No filter named '{}'.", name);
  return place->second(input, arguments);
}

}  // namespace pregate::model::jinja
