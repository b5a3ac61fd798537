// The functions that every template can call.
#pragma once

#include <map>
#include <string>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

/// `namespace()`: the one value that a template can change, by {% set ns.name = value %}.
class Namespace : public Object {
 public:
  std::string_view type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(std::string_view name) const override;
  void set(const std::string& name, Value value);
  void clear() override { attributes_.clear(); }

 private:
  std::map<std::string, Value, std::less<>> attributes_;
};

/// range(begin, end, step), bounded as in jinja2's sandbox.
Value range(const Arguments& arguments);
/// dict(mapping or pairs, **entries).
Value make_dict(const Arguments& arguments);
[[noreturn]] void raise_exception(const Arguments& arguments);
/// strftime_now(format): the local time.
Value strftime_now(const Arguments& arguments);

}  // namespace pregate::model::jinja
