#include "model/checkpoint/field_reader.h"

#include <cmath>

#include "base/mapped_file.h"

namespace pregate::model {
namespace {

/// The value as it stands in the file, cut to what fits in a message.
std::string shown(const boost::json::value& value) {
  constexpr size_t kLongest = 60;
  std::string text = boost::json::serialize(value);
  if (text.size() > kLongest) text.replace(kLongest, std::string::npos, "...");
  return text;
}

std::optional<size_t> to_size(const boost::json::value& value) {
  if (value.is_uint64()) return value.get_uint64();
  if (value.is_int64() && value.get_int64() >= 0) return static_cast<size_t>(value.get_int64());
  return std::nullopt;
}

}  // namespace

Result<boost::json::object> parse_json_object(std::string_view text, const std::string& where) {
  boost::system::error_code error;
  boost::json::value value = boost::json::parse({text.data(), text.size()}, error);
  if (error) return fail(ErrorCode::kDataLoss, "{}: not JSON: {}", where, error.message());
  if (!value.is_object()) return fail(ErrorCode::kDataLoss, "{}: expected a JSON object", where);
  return std::move(value.get_object());
}

Result<boost::json::object> read_json_object(const std::filesystem::path& path) {
  PREGATE_ASSIGN(const std::string text, read_file(path));
  return parse_json_object(text, path.string());
}

FieldReader::FieldReader(boost::json::object object, std::string where)
    : object_(std::move(object)), where_(std::move(where)) {}

const boost::json::value* FieldReader::find(std::string_view key) const {
  const boost::json::value* value = object_.if_contains({key.data(), key.size()});
  return value == nullptr || value->is_null() ? nullptr : value;
}

const boost::json::value* FieldReader::find_required(std::string_view key, bool has_fallback) {
  const boost::json::value* value = find(key);
  if (value == nullptr && !has_fallback && status_) {
    status_ = fail(ErrorCode::kInvalidArgument, "{}: {}: missing", where_, key);
  }
  return value;
}

void FieldReader::reject(std::string_view key, std::string_view expected) {
  if (!status_) return;
  const boost::json::value* value = find(key);
  status_ = fail(ErrorCode::kInvalidArgument, "{}: {}: expected {}, found {}", where_, key,
                 expected, value == nullptr ? "nothing" : shown(*value));
}

void FieldReader::keep_first_error(const Status& status) {
  if (status_) status_ = status;
}

size_t FieldReader::size(std::string_view key, std::optional<size_t> fallback, SizeRange range) {
  const boost::json::value* value = find_required(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or(range.min);
  const auto number = to_size(*value);
  if (number && *number >= range.min && *number <= range.max) return *number;
  reject(key, fmt::format("an integer from {} to {}", range.min, range.max));
  return fallback.value_or(range.min);
}

double FieldReader::number(std::string_view key, std::optional<double> fallback, double min) {
  const boost::json::value* value = find_required(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or(min);
  if (value->is_number()) {
    const double number = value->to_number<double>();
    if (std::isfinite(number) && number >= min) return number;
  }
  reject(key, min == std::numeric_limits<double>::lowest()
                  ? std::string("a number")
                  : fmt::format("a number of at least {}", min));
  return fallback.value_or(min);
}

std::optional<double> FieldReader::optional_number(std::string_view key) {
  if (!has(key)) return std::nullopt;
  return number(key, 0.0);
}

bool FieldReader::flag(std::string_view key, bool fallback) {
  const boost::json::value* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_bool()) return value->get_bool();
  reject(key, "true or false");
  return fallback;
}

std::string FieldReader::text(std::string_view key, std::optional<std::string> fallback) {
  const boost::json::value* value = find_required(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or("");
  if (value->is_string()) return std::string(value->get_string());
  reject(key, "a string");
  return fallback.value_or("");
}

std::vector<size_t> FieldReader::sizes(std::string_view key) {
  const boost::json::value* value = find(key);
  if (value == nullptr) return {};
  if (const auto single = to_size(*value)) return {*single};
  std::vector<size_t> result;
  if (value->is_array()) {
    for (const auto& element : value->get_array()) {
      const auto number = to_size(element);
      if (!number) break;
      result.push_back(*number);
    }
    if (result.size() == value->get_array().size()) return result;
  }
  reject(key, "a list of non-negative integers");
  return {};
}

std::vector<TokenId> FieldReader::token_ids(std::string_view key) {
  std::vector<TokenId> result;
  for (const size_t id : sizes(key)) {
    if (id <= size_t(std::numeric_limits<TokenId>::max())) result.push_back(TokenId(id));
  }
  return result;
}

std::vector<std::string> FieldReader::texts(std::string_view key) {
  const boost::json::value* value = find(key);
  if (value == nullptr) return {};
  std::vector<std::string> result;
  if (value->is_array()) {
    for (const auto& element : value->get_array()) {
      if (!element.is_string()) break;
      result.emplace_back(element.get_string());
    }
    if (result.size() == value->get_array().size()) return result;
  }
  reject(key, "a list of strings");
  return {};
}

FieldReader FieldReader::object(std::string_view key) {
  const std::string where = fmt::format("{}: {}", where_, key);
  const boost::json::value* value = find(key);
  if (value != nullptr && value->is_object()) return {value->get_object(), where};
  if (value != nullptr) reject(key, "an object");
  return {{}, where};
}

}  // namespace pregate::model
