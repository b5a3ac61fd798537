#include "model/tokenizer/json_field.h"

#include <boost/json/array.hpp>
#include <boost/json/kind.hpp>
#include <boost/json/object.hpp>

namespace pregate::model {

tl::unexpected<Error> JsonField::fail_type(std::string_view expected) const {
  const auto kind = boost::json::to_string(value_->kind());
  return fail_here("expected {}, found {}", expected, std::string_view(kind.data(), kind.size()));
}

Result<std::optional<JsonField>> JsonField::find(std::string_view key) const {
  const boost::json::object* object = value_->if_object();
  if (object == nullptr) return fail_type("an object");
  const boost::json::value* member = object->if_contains(key);
  if (member == nullptr || member->is_null()) return std::nullopt;
  return JsonField(*member, path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key));
}

Result<JsonField> JsonField::at(std::string_view key) const {
  PREGATE_ASSIGN(std::optional<JsonField> field, find(key));
  if (!field) {
    return fail(ErrorCode::kInvalidArgument, "{}{}{}: missing", path_, path_.empty() ? "" : ".",
                key);
  }
  return *std::move(field);
}

Result<std::vector<JsonField>> JsonField::elements() const {
  const boost::json::array* array = value_->if_array();
  if (array == nullptr) return fail_type("an array");
  std::vector<JsonField> fields;
  fields.reserve(array->size());
  for (const boost::json::value& element : *array) {
    fields.emplace_back(element, fmt::format("{}[{}]", path_, fields.size()));
  }
  return fields;
}

Result<std::string_view> JsonField::as_string() const {
  const boost::json::string* text = value_->if_string();
  if (text == nullptr) return fail_type("a string");
  return std::string_view(text->data(), text->size());
}

Result<bool> JsonField::as_bool() const {
  const bool* flag = value_->if_bool();
  if (flag == nullptr) return fail_type("true or false");
  return *flag;
}

Result<uint32_t> JsonField::as_number_below(uint32_t limit) const {
  const int64_t* number = value_->if_int64();
  if (number == nullptr && !value_->is_uint64()) return fail_type("a whole number");
  if (number == nullptr || *number < 0 || *number >= limit) {
    return fail_here("expected a number from 0 to {}", limit - 1);
  }
  return static_cast<uint32_t>(*number);
}

Result<std::string_view> JsonField::string_at(std::string_view key) const {
  PREGATE_ASSIGN(const JsonField field, at(key));
  return field.as_string();
}

Result<bool> JsonField::bool_or(std::string_view key, bool default_value) const {
  PREGATE_ASSIGN(const std::optional<JsonField> field, find(key));
  return field ? field->as_bool() : Result<bool>(default_value);
}

}  // namespace pregate::model
