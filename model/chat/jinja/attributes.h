// What follows a value in a template: .name and [key], with the sandbox's refusals.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "model/chat/jinja/arguments.h"
#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

/// object.name: a method or attribute, else the item of that name, else undefined.
Value get_attribute(const Value& object, std::string_view name);
/// object[key]: the item, else (for a text key) the method or attribute, else undefined.
Value get_item(const Value& object, const Value& key);
/// Only methods and attributes, for the attr filter.
Value get_attribute_only(const Value& object, std::string_view name);
/// Follows "a.b.0" from filters' attribute arguments; an integer is one key. Values that are
/// undefined on the way become `fallback` if that is not none.
Value get_path(const Value& object, const Value& path, const Value& fallback = {});

/// A method bound to its object, or none. Names that would change the object give an undefined
/// value that says so when it is called.
std::optional<Value> find_method(const Value& object, std::string_view name);

/// A callable of C++.
class Function : public Object {
 public:
  using Body = std::function<Value(const Arguments&)>;

  /// `depth`: of the values that the body holds.
  Function(std::string name, Body body, uint32_t depth = 0)
      : Object(depth), name_(std::move(name)), body_(std::move(body)) {}
  std::string_view type_name() const override { return "builtin_function_or_method"; }
  std::string repr() const override { return fmt::format("<function {}>", name_); }
  bool is_callable() const override { return true; }
  Value call(const Arguments& arguments) override { return body_(arguments); }

 private:
  std::string name_;
  Body body_;
};

}  // namespace pregate::model::jinja
