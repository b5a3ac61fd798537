#include "model/chat/jinja/functions.h"

#include <array>
#include <ctime>

#include "model/chat/jinja/arguments.h"
#include "model/chat/jinja/attributes.h"
#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/repr.h"

namespace pregate::model::jinja {
namespace {

int64_t range_number(const Value& value) {
  const auto number = as_whole_number(value);
  if (number) return *number;
  require_defined(value);
  raise("'{}' object cannot be interpreted as an integer", type_name(value));
}

uint64_t range_size(int64_t begin, int64_t end, int64_t step) {
  if (step == 0) raise("range() arg 3 must not be zero");
  if (step > 0 ? begin >= end : begin <= end) return 0;
  const auto distance = step > 0 ? static_cast<uint64_t>(end) - static_cast<uint64_t>(begin)
                                 : static_cast<uint64_t>(begin) - static_cast<uint64_t>(end);
  const auto stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  return (distance - 1) / stride + 1;
}

}  // namespace

std::optional<Value> Namespace::attribute(std::string_view name) const {
  const auto place = attributes_.find(name);
  return place != attributes_.end() ? std::optional(place->second) : std::nullopt;
}

void Namespace::set(const std::string& name, Value value) {
  if (name.starts_with('_')) {
    raise(
        "Chat templates cannot store underscore-prefixed attributes on a namespace, but got {}. "
        "Please rename the attribute.",
        repr_text(name));
  }
  attributes_.insert_or_assign(name, std::move(value));
}

Value range(const Arguments& arguments) {
  const auto& given = arguments.positional;
  if (!arguments.keywords.empty()) raise("range() takes no keyword arguments");
  if (given.empty() || given.size() > 3) {
    raise("range expected 1 to 3 arguments, got {}", given.size());
  }
  const int64_t begin = given.size() > 1 ? range_number(given[0]) : 0;
  const int64_t end = range_number(given[given.size() > 1 ? 1 : 0]);
  const int64_t step = given.size() > 2 ? range_number(given[2]) : 1;
  const uint64_t size = range_size(begin, end, step);
  if (size > kMaxRange) {
    raise_exhausted("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).",
                    kMaxRange);
  }
  std::vector<Value> items;
  for (uint64_t i = 0; i < size; ++i) items.emplace_back(begin + static_cast<int64_t>(i) * step);
  std::string label = given.size() > 2 ? fmt::format("range({}, {}, {})", begin, end, step)
                                       : fmt::format("range({}, {})", begin, end);
  return std::make_shared<Sequence>(SequenceKind::kRange, std::move(items), std::move(label));
}

Value make_dict(const Arguments& arguments) {
  if (arguments.positional.size() > 1) {
    raise("dict expected at most 1 argument, got {}", arguments.positional.size());
  }
  auto dict = std::make_shared<Dict>();
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.as_dict() != nullptr) {
      *dict = *source.as_dict();
    } else {
      for (const Value& pair : iterate(source)) {
        const std::vector<Value> entry = iterate(pair);
        if (entry.size() != 2) raise("dictionary update sequence elements must have length 2");
        dict->set(entry[0], entry[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.keywords) dict->set(name, value);
  return DictPtr(std::move(dict));
}

void raise_exception(const Arguments& arguments) {
  const Bound bound("raise_exception", arguments, {"message"}, 1);
  throw RaisedByTemplate(str(bound.value(0)));
}

Value strftime_now(const Arguments& arguments) {
  const Bound bound("strftime_now", arguments, {"format"}, 1);
  const std::string format = bound.text(0);
  if (format.empty()) return "";
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 1024> buffer;
  const size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  return std::string(buffer.data(), size);
}

}  // namespace pregate::model::jinja
