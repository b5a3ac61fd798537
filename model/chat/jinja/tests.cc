// The tests of {% if value is name %}.
#include <cmath>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/operators.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

template <bool (*Predicate)(const Value&)>
bool examine(const Value& input, const Arguments& arguments) {
  const Bound bound("test", arguments, {});
  return Predicate(input);
}

template <CompareKind kind>
bool relate(const Value& input, const Arguments& arguments) {
  return compare(kind, input, Bound("test", arguments, {"other"}, 1).value(0));
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_boolean(const Value& value) { return value.as_bool() != nullptr; }
bool is_exactly_true(const Value& value) { return is_boolean(value) && *value.as_bool(); }
bool is_exactly_false(const Value& value) { return is_boolean(value) && !*value.as_bool(); }
bool is_integer(const Value& value) { return value.as_integer() != nullptr; }
bool is_float(const Value& value) { return value.as_float() != nullptr; }
bool is_number(const Value& value) { return as_number(value).has_value(); }
bool is_string(const Value& value) { return value.as_text() != nullptr; }
bool is_mapping(const Value& value) { return value.as_dict() != nullptr; }
bool is_sequence(const Value& value) {
  const auto* sequence = value.as_sequence();
  return is_string(value) || is_mapping(value) || is_undefined(value) ||
         (sequence != nullptr && sequence->is_indexable());
}
bool is_escaped(const Value&) { return false; }
bool is_lower_case(const Value& value) { return is_lower(str(value)); }
bool is_upper_case(const Value& value) { return is_upper(str(value)); }

bool is_filter(const Value& value) {
  return value.as_text() != nullptr && filters().contains(*value.as_text());
}
bool is_test(const Value& value) {
  return value.as_text() != nullptr && tests().contains(*value.as_text());
}

bool has_remainder(const Value& value, const Value& divisor, int64_t remainder) {
  return equal(apply(BinaryKind::kModulo, value, divisor), remainder);
}
bool is_odd(const Value& value) { return has_remainder(value, 2, 1); }
bool is_even(const Value& value) { return has_remainder(value, 2, 0); }
bool is_divisible(const Value& input, const Arguments& arguments) {
  return has_remainder(input, Bound("divisibleby", arguments, {"num"}, 1).value(0), 0);
}

bool is_same(const Value& input, const Arguments& arguments) {
  return same(input, Bound("sameas", arguments, {"other"}, 1).value(0));
}

}  // namespace

const TestTable& tests() {
  static const TestTable table = {
      {"!=", relate<CompareKind::kNotEqual>},
      {"<", relate<CompareKind::kLess>},
      {"<=", relate<CompareKind::kLessEqual>},
      {"==", relate<CompareKind::kEqual>},
      {">", relate<CompareKind::kGreater>},
      {">=", relate<CompareKind::kGreaterEqual>},
      {"boolean", examine<is_boolean>},
      {"callable", examine<is_callable>},
      {"defined", examine<is_defined>},
      {"divisibleby", is_divisible},
      {"eq", relate<CompareKind::kEqual>},
      {"equalto", relate<CompareKind::kEqual>},
      {"escaped", examine<is_escaped>},
      {"even", examine<is_even>},
      {"false", examine<is_exactly_false>},
      {"filter", examine<is_filter>},
      {"float", examine<is_float>},
      {"ge", relate<CompareKind::kGreaterEqual>},
      {"greaterthan", relate<CompareKind::kGreater>},
      {"gt", relate<CompareKind::kGreater>},
      {"in", relate<CompareKind::kIn>},
      {"integer", examine<is_integer>},
      {"iterable", examine<is_iterable>},
      {"le", relate<CompareKind::kLessEqual>},
      {"lessthan", relate<CompareKind::kLess>},
      {"lower", examine<is_lower_case>},
      {"lt", relate<CompareKind::kLess>},
      {"mapping", examine<is_mapping>},
      {"ne", relate<CompareKind::kNotEqual>},
      {"none", examine<is_none>},
      {"number", examine<is_number>},
      {"odd", examine<is_odd>},
      {"sameas", is_same},
      {"sequence", examine<is_sequence>},
      {"string", examine<is_string>},
      {"test", examine<is_test>},
      {"true", examine<is_exactly_true>},
      {"undefined", examine<is_undefined>},
      {"upper", examine<is_upper_case>},
  };
  return table;
}

bool apply_test(std::string_view name, const Value& input, const Arguments& arguments) {
  const auto place = tests().find(name);
  if (place == tests().end()) raise("No test named '{}'.", name);
  return place->second(input, arguments);
}

}  // namespace pregate::model::jinja
