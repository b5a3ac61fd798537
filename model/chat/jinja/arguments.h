// Call arguments, and their binding to the parameters of a built-in function.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;

  const Value* keyword(std::string_view name) const;
};

/// Binds as Python does: positional arguments first, keywords by name; too many, unknown, doubled
/// or missing ones raise. Accessors convert, or raise for a value of the wrong type.
class Bound {
 public:
  Bound(std::string_view function, const Arguments& arguments,
        std::initializer_list<std::string_view> names, size_t required = 0);

  bool has(size_t index) const { return values_[index] != nullptr; }
  bool is_none(size_t index) const { return !has(index) || values_[index]->is_none(); }
  Value value(size_t index, Value fallback = {}) const;
  bool boolean(size_t index, bool fallback) const;
  int64_t integer(size_t index, int64_t fallback) const;
  std::string text(size_t index, std::string_view fallback = "") const;

 private:
  [[noreturn]] void fail_type(size_t index, std::string_view expected) const;

  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;  // null: not given
};

}  // namespace pregate::model::jinja
