#include "coordinator/api/field_reader.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace pregate::coordinator {

namespace json = boost::json;

std::optional<int64_t> whole_number(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  // Doubles count whole numbers exactly up to 2^53.
  constexpr double kExactLimit = 9007199254740992.0;
  if (value.is_double() && std::trunc(value.get_double()) == value.get_double() &&
      std::abs(value.get_double()) <= kExactLimit) {
    return static_cast<int64_t>(value.get_double());
  }
  return std::nullopt;
}

FieldReader::FieldReader(const json::object& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

void FieldReader::fail(std::string_view name, std::string message) {
  if (error_) return;
  std::string field = fmt::format("{}{}", prefix_, name);
  error_ = ApiError{400, fmt::format("{}: {}", field, message), field};
}

const json::value* FieldReader::find(std::string_view name) {
  if (error_) return nullptr;
  const json::value* value = object_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void FieldReader::read(std::string_view name, bool& out) {
  const json::value* value = find(name);
  if (value == nullptr) return;
  if (!value->is_bool()) return fail(name, "expected true or false");
  out = value->get_bool();
}

void FieldReader::read(std::string_view name, std::string& out) {
  const json::value* value = find(name);
  if (value == nullptr) return;
  if (!value->is_string()) return fail(name, "expected a string");
  out = value->get_string();
}

void FieldReader::read(std::string_view name, float& out, Range<double> range) {
  const json::value* value = find(name);
  if (value == nullptr) return;
  if (!value->is_number()) return fail(name, "expected a number");
  const double number = value->to_number<double>();
  const bool low_enough = number <= range.high;
  const bool high_enough = range.low_excluded ? number > range.low : number >= range.low;
  if (!low_enough || !high_enough) {
    return fail(name, fmt::format("expected a number in {}{}, {}], got {}",
                                  range.low_excluded ? '(' : '[', range.low, range.high, number));
  }
  out = static_cast<float>(number);
}

std::optional<int64_t> FieldReader::integer(std::string_view name, Range<int64_t> range) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto number = whole_number(*value);
  if (number && *number >= range.low && *number <= range.high) return number;
  const bool bounded = range.high != std::numeric_limits<int64_t>::max();
  fail(name, bounded ? fmt::format("expected an integer from {} to {}", range.low, range.high)
                     : fmt::format("expected an integer of at least {}", range.low));
  return std::nullopt;
}

const json::object* FieldReader::object(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) fail(name, "expected an object");
  return value->if_object();
}

const json::array* FieldReader::array(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) fail(name, "expected a list");
  return value->if_array();
}

}  // namespace pregate::coordinator
