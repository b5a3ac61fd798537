#include "model/chat/jinja/attributes.h"

#include <algorithm>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/numbers.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

std::string described(const Value& object) {
  return object.is_none() ? "None" : fmt::format("{} object", type_name(object));
}

Value missing(const Value& object, const Value& key) {
  if (key.as_text() != nullptr) {
    return Value::undefined(fmt::format("'{}' has no attribute {}", described(object), repr(key)));
  }
  return Value::undefined(fmt::format("{} has no element {}", described(object), repr(key)));
}

Value unsafe(const Value& object, std::string_view name) {
  return Value::undefined(fmt::format("access to attribute {} of '{}' object is unsafe.",
                                      repr_text(name), type_name(object)));
}

std::optional<Value> find_attribute(const Value& object, std::string_view name) {
  if (auto method = find_method(object, name)) return method;
  const auto* sequence = object.as_sequence();
  if (sequence != nullptr && sequence->kind() == SequenceKind::kGroup) {
    if (name == "grouper") return sequence->items()[0];
    if (name == "list") return sequence->items()[1];
  }
  if (object.as_object() != nullptr) return object.as_object()->attribute(name);
  return std::nullopt;
}

std::optional<Value> at_index(const Value& object, int64_t index) {
  if (const auto* text = object.as_text()) {
    const std::u32string whole = to_utf32(*text);
    if (index < 0) index += std::ssize(whole);
    if (index < 0 || index >= std::ssize(whole)) return std::nullopt;
    return to_utf8(whole.substr(static_cast<size_t>(index), 1));
  }
  const auto* sequence = object.as_sequence();
  if (sequence == nullptr || !sequence->is_indexable()) return std::nullopt;
  const auto& items = sequence->items();
  if (index < 0) index += std::ssize(items);
  if (index < 0 || index >= std::ssize(items)) return std::nullopt;
  return items[static_cast<size_t>(index)];
}

std::optional<Value> find_item(const Value& object, const Value& key) {
  if (const auto* dict = object.as_dict()) {
    if (key.as_sequence() != nullptr && !key.as_sequence()->is_tuple()) return std::nullopt;
    if (key.as_dict() != nullptr) return std::nullopt;  // unhashable
    const Value* value = dict->find(key);
    return value != nullptr ? std::optional(*value) : std::nullopt;
  }
  const auto index = as_whole_number(key);
  return index ? at_index(object, *index) : std::nullopt;
}

bool is_index(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Value key_of_part(const std::string& part) {
  const auto index = is_index(part) ? parse_integer(part, 10) : std::nullopt;
  return index ? Value(*index) : Value(part);
}

}  // namespace

Value get_attribute(const Value& object, std::string_view name) {
  require_defined(object);
  if (auto value = find_attribute(object, name)) return *std::move(value);
  if (auto value = find_item(object, Value(name))) return *std::move(value);
  if (name.starts_with("__")) return unsafe(object, name);
  return missing(object, Value(name));
}

Value get_item(const Value& object, const Value& key) {
  require_defined(object);
  if (auto value = find_item(object, key)) return *std::move(value);
  if (const auto* name = key.as_text()) {
    if (auto value = find_attribute(object, *name)) return *std::move(value);
    if (name->starts_with("__")) return unsafe(object, *name);
  }
  return missing(object, key);
}

Value get_attribute_only(const Value& object, std::string_view name) {
  require_defined(object);
  if (auto value = find_attribute(object, name)) return *std::move(value);
  return missing(object, Value(name));
}

Value get_path(const Value& object, const Value& path, const Value& fallback) {
  const auto* text = path.as_text();
  if (text == nullptr) {
    Value value = get_item(object, path);
    return value.is_undefined() && !fallback.is_none() ? fallback : value;
  }
  Value value = object;
  for (const std::string& part : split(*text, ".", -1)) {
    value = get_item(value, key_of_part(part));
    if (value.is_undefined() && !fallback.is_none()) value = fallback;
  }
  return value;
}

}  // namespace pregate::model::jinja
