#include "model/chat/jinja/arguments.h"

#include <algorithm>

#include "model/chat/jinja/failure.h"

namespace pregate::model::jinja {

const Value* Arguments::keyword(std::string_view name) const {
  for (const auto& [key, value] : keywords) {
    if (key == name) return &value;
  }
  return nullptr;
}

Bound::Bound(std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names, size_t required)
    : function_(function), names_(names), values_(names.size(), nullptr) {
  if (arguments.positional.size() > names_.size()) {
    raise("{}() takes at most {} arguments ({} given)", function, names_.size(),
          arguments.positional.size());
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.keywords) {
    const auto place = std::find(names_.begin(), names_.end(), name);
    if (place == names_.end()) {
      raise("{}() got an unexpected keyword argument '{}'", function, name);
    }
    const Value*& slot = values_[static_cast<size_t>(place - names_.begin())];
    if (slot != nullptr) raise("{}() got multiple values for argument '{}'", function, name);
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!has(i)) raise("{}() missing required argument '{}'", function, names_[i]);
  }
}

Value Bound::value(size_t index, Value fallback) const {
  return has(index) ? *values_[index] : std::move(fallback);
}

bool Bound::boolean(size_t index, bool fallback) const {
  return has(index) ? is_true(*values_[index]) : fallback;
}

int64_t Bound::integer(size_t index, int64_t fallback) const {
  if (!has(index)) return fallback;
  const auto number = as_whole_number(*values_[index]);
  if (!number) fail_type(index, "an integer");
  return *number;
}

std::string Bound::text(size_t index, std::string_view fallback) const {
  if (!has(index)) return std::string(fallback);
  const auto* text = values_[index]->as_text();
  if (text == nullptr) fail_type(index, "a string");
  return *text;
}

void Bound::fail_type(size_t index, std::string_view expected) const {
  require_defined(*values_[index]);
  raise("{}(): argument '{}' must be {}, not '{}'", function_, names_[index], expected,
        type_name(*values_[index]));
}

}  // namespace pregate::model::jinja
