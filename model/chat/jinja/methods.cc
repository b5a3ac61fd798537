// Methods of texts, lists and dicts.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "model/chat/jinja/attributes.h"
#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/format.h"
#include "model/chat/jinja/operators.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

using Method = Value (*)(const Value& self, const Arguments& arguments);
using MethodTable = std::unordered_map<std::string_view, Method>;

Value list_of(std::vector<std::string> texts) {
  std::vector<Value> items;
  for (std::string& text : texts) items.emplace_back(std::move(text));
  return Value::list(std::move(items));
}

void require_none(std::string_view name, const Arguments& arguments) { Bound(name, arguments, {}); }

template <std::string (*Function)(std::string_view)>
Value change_self(const Value& self, const Arguments& arguments) {
  require_none("method", arguments);
  return Function(*self.as_text());
}

template <bool (*Function)(std::string_view)>
Value examine(const Value& self, const Arguments& arguments) {
  require_none("method", arguments);
  return Function(*self.as_text());
}

/// Every character, of at least one.
template <bool (*Predicate)(char32_t)>
bool all_characters(std::string_view text) {
  const std::u32string whole = to_utf32(text);
  return !whole.empty() && std::all_of(whole.begin(), whole.end(), Predicate);
}

bool is_alphanumeric(char32_t code) { return is_word(code) && code != '_'; }
bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<signed char>(c) >= 0; });
}
bool is_identifier(std::string_view text) {
  return all_characters<is_word>(text) && !is_digit(character_at(text, 0).code);
}
bool is_title(std::string_view text) {
  return title(text) == text && (upper(text) != text || lower(text) != text);
}

template <bool left, bool right>
Value strip_method(const Value& self, const Arguments& arguments) {
  const Bound bound("strip", arguments, {"chars"});
  if (bound.is_none(0)) return strip(*self.as_text(), left, right);
  return strip_of(*self.as_text(), bound.text(0), left, right);
}

template <bool from_right>
Value split_method(const Value& self, const Arguments& arguments) {
  const Bound bound("split", arguments, {"sep", "maxsplit"});
  const int64_t count = bound.integer(1, -1);
  const std::string& text = *self.as_text();
  if (bound.is_none(0)) {
    return list_of(from_right ? split_space_from_right(text, count) : split_space(text, count));
  }
  const std::string separator = bound.text(0);
  if (separator.empty()) raise("empty separator");
  return list_of(from_right ? split_from_right(text, separator, count)
                            : split(text, separator, count));
}

Value split_lines_method(const Value& self, const Arguments& arguments) {
  const Bound bound("splitlines", arguments, {"keepends"});
  return list_of(split_lines(*self.as_text(), bound.boolean(0, false)));
}

template <bool from_right>
Value partition_method(const Value& self, const Arguments& arguments) {
  const Bound bound("partition", arguments, {"sep"}, 1);
  const std::string separator = bound.text(0);
  if (separator.empty()) raise("empty separator");
  const std::string& text = *self.as_text();
  const size_t at = from_right ? find_last_bytes(text, separator) : find_bytes(text, separator);
  if (at == std::string::npos) {
    return from_right ? Value::tuple({"", "", text}) : Value::tuple({text, "", ""});
  }
  return Value::tuple({text.substr(0, at), separator, text.substr(at + separator.size())});
}

/// The part of the text that the optional start and end arguments name, and where it begins.
struct Part {
  std::string text;
  int64_t begin;
};
Part part_of(const Value& self, const Bound& bound) {
  if (bound.is_none(1) && bound.is_none(2)) return {*self.as_text(), 0};
  const int64_t size = length(*self.as_text());
  int64_t begin = bound.is_none(1) ? 0 : bound.integer(1, 0);
  if (begin < 0) begin = std::max<int64_t>(0, begin + size);
  if (begin > size) return {"", -1};
  return {*slice(self, begin, bound.value(2), Value()).as_text(), begin};
}

template <bool at_end>
Value affix_method(const Value& self, const Arguments& arguments) {
  const std::string_view name = at_end ? "endswith" : "startswith";
  const Bound bound(name, arguments, {at_end ? "suffix" : "prefix", "start", "end"}, 1);
  const Part part = part_of(self, bound);
  if (part.begin < 0) return false;
  const auto matches = [&](const Value& affix) {
    const auto* text = affix.as_text();
    if (text == nullptr) {
      raise("{} first arg must be str or a tuple of str, not {}", name, type_name(affix));
    }
    return at_end ? part.text.ends_with(*text) : part.text.starts_with(*text);
  };
  const Value affix = bound.value(0);
  const auto* tuple = affix.as_sequence();
  if (tuple == nullptr || !tuple->is_tuple()) return matches(affix);
  return std::any_of(tuple->items().begin(), tuple->items().end(), matches);
}

template <bool from_right>
int64_t position_of(std::string_view name, const Value& self, const Arguments& arguments) {
  const Bound bound(name, arguments, {"sub", "start", "end"}, 1);
  const Part part = part_of(self, bound);
  if (part.begin < 0) return -1;
  const std::string needle = bound.text(0);
  const size_t at = from_right ? find_last_bytes(part.text, needle) : find_bytes(part.text, needle);
  if (at == std::string::npos) return -1;
  return part.begin + length(std::string_view(part.text).substr(0, at));
}

template <bool from_right>
Value find_method_of_text(const Value& self, const Arguments& arguments) {
  return position_of<from_right>("find", self, arguments);
}

template <bool from_right>
Value index_method_of_text(const Value& self, const Arguments& arguments) {
  const int64_t at = position_of<from_right>("index", self, arguments);
  if (at < 0) raise("substring not found");
  return at;
}

Value count_method_of_text(const Value& self, const Arguments& arguments) {
  const Bound bound("count", arguments, {"sub", "start", "end"}, 1);
  const Part part = part_of(self, bound);
  if (part.begin < 0) return 0;
  const std::string needle = bound.text(0);
  if (needle.empty()) return length(part.text) + 1;
  int64_t count = 0;
  for (size_t at = find_bytes(part.text, needle); at != std::string::npos;
       at = find_bytes(part.text, needle, at + needle.size())) {
    ++count;
  }
  return count;
}

Value replace_method(const Value& self, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  return replace(*self.as_text(), bound.text(0), bound.text(1), bound.integer(2, -1));
}

template <bool at_end>
Value remove_affix_method(const Value& self, const Arguments& arguments) {
  const Bound bound(at_end ? "removesuffix" : "removeprefix", arguments, {"affix"}, 1);
  std::string_view text = *self.as_text();
  const std::string affix = bound.text(0);
  if (at_end && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!at_end && text.starts_with(affix)) text.remove_prefix(affix.size());
  return text;
}

Value join_method(const Value& self, const Arguments& arguments) {
  const Bound bound("join", arguments, {"iterable"}, 1);
  std::string out;
  size_t index = 0;
  for (const Value& item : iterate(bound.value(0))) {
    if (item.as_text() == nullptr) {
      raise("sequence item {}: expected str instance, {} found", index, type_name(item));
    }
    if (index++ > 0) out += *self.as_text();
    out += *item.as_text();
    check_text_size(out.size());
  }
  return out;
}

Value format_method(const Value& self, const Arguments& arguments) {
  return format_braces(*self.as_text(), arguments);
}

/// ljust, rjust and center: which share of the padding goes to the left, in halves.
template <int left_halves>
Value justify_method(const Value& self, const Arguments& arguments) {
  const Bound bound("justify", arguments, {"width", "fillchar"}, 1);
  const std::string fill = bound.text(1, " ");
  if (length(fill) != 1) raise("The fill character must be exactly one character long");
  const int64_t width = bound.integer(0, 0);
  const int64_t missing = std::max<int64_t>(0, width - length(*self.as_text()));
  const int64_t odd = left_halves == 1 ? missing & width & 1 : 0;
  const int64_t left = missing / 2 * left_halves + (left_halves == 2 ? missing & 1 : odd);
  return repeat(fill, left) + *self.as_text() + repeat(fill, missing - left);
}

Value zero_fill_method(const Value& self, const Arguments& arguments) {
  const Bound bound("zfill", arguments, {"width"}, 1);
  const std::string& text = *self.as_text();
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return text.substr(0, sign) + repeat("0", bound.integer(0, 0) - length(text)) + text.substr(sign);
}

const MethodTable& text_methods() {
  static const MethodTable table = {
      {"capitalize", change_self<capitalize>},
      {"casefold", change_self<lower>},
      {"center", justify_method<1>},
      {"count", count_method_of_text},
      {"endswith", affix_method<true>},
      {"find", find_method_of_text<false>},
      {"format", format_method},
      {"index", index_method_of_text<false>},
      {"isalnum", examine<all_characters<is_alphanumeric>>},
      {"isalpha", examine<all_characters<is_alphabetic>>},
      {"isascii", examine<is_ascii>},
      {"isdecimal", examine<all_characters<is_digit>>},
      {"isdigit", examine<all_characters<is_digit>>},
      {"isidentifier", examine<is_identifier>},
      {"islower", examine<is_lower>},
      {"isnumeric", examine<all_characters<is_digit>>},
      {"isspace", examine<all_characters<is_space>>},
      {"istitle", examine<is_title>},
      {"isupper", examine<is_upper>},
      {"join", join_method},
      {"ljust", justify_method<0>},
      {"lower", change_self<lower>},
      {"lstrip", strip_method<true, false>},
      {"partition", partition_method<false>},
      {"removeprefix", remove_affix_method<false>},
      {"removesuffix", remove_affix_method<true>},
      {"replace", replace_method},
      {"rfind", find_method_of_text<true>},
      {"rindex", index_method_of_text<true>},
      {"rjust", justify_method<2>},
      {"rpartition", partition_method<true>},
      {"rsplit", split_method<true>},
      {"rstrip", strip_method<false, true>},
      {"split", split_method<false>},
      {"splitlines", split_lines_method},
      {"startswith", affix_method<false>},
      {"strip", strip_method<true, true>},
      {"swapcase", change_self<swap_case>},
      {"title", change_self<title>},
      {"upper", change_self<upper>},
      {"zfill", zero_fill_method},
  };
  return table;
}

Value index_method(const Value& self, const Arguments& arguments) {
  const Bound bound("index", arguments, {"value"}, 1);
  const auto& items = self.as_sequence()->items();
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], bound.value(0))) return i;
  }
  raise("{} is not in list", repr(bound.value(0)));
}

Value count_method(const Value& self, const Arguments& arguments) {
  const Bound bound("count", arguments, {"value"}, 1);
  const Value wanted = bound.value(0);
  const auto& items = self.as_sequence()->items();
  return std::count_if(items.begin(), items.end(),
                       [&](const Value& item) { return equal(item, wanted); });
}

Value copy_method(const Value& self, const Arguments& arguments) {
  require_none("copy", arguments);
  return self;
}

const MethodTable& list_methods() {
  static const MethodTable table = {
      {"copy", copy_method}, {"count", count_method}, {"index", index_method}};
  return table;
}

const MethodTable& tuple_methods() {
  static const MethodTable table = {{"count", count_method}, {"index", index_method}};
  return table;
}

template <SequenceKind kind>
Value view_method(const Value& self, const Arguments& arguments) {
  require_none("method", arguments);
  std::vector<Value> items;
  for (const auto& [key, value] : self.as_dict()->entries()) {
    items.push_back(kind == SequenceKind::kKeys     ? key
                    : kind == SequenceKind::kValues ? value
                                                    : Value::tuple({key, value}));
  }
  return std::make_shared<Sequence>(kind, std::move(items));
}

Value get_method(const Value& self, const Arguments& arguments) {
  const Bound bound("get", arguments, {"key", "default"}, 1);
  const Value* value = self.as_dict()->find(bound.value(0));
  return value != nullptr ? *value : bound.value(1);
}

const MethodTable& dict_methods() {
  static const MethodTable table = {{"copy", copy_method},
                                    {"get", get_method},
                                    {"items", view_method<SequenceKind::kItems>},
                                    {"keys", view_method<SequenceKind::kKeys>},
                                    {"values", view_method<SequenceKind::kValues>}};
  return table;
}

const MethodTable* methods_of(const Value& object) {
  if (object.as_text() != nullptr) return &text_methods();
  if (object.as_dict() != nullptr) return &dict_methods();
  const auto* sequence = object.as_sequence();
  if (sequence == nullptr) return nullptr;
  if (sequence->is_list()) return &list_methods();
  return sequence->is_indexable() ? &tuple_methods() : nullptr;
}

/// The methods that jinja2's immutable sandbox refuses.
bool is_refused(const Value& object, std::string_view name) {
  constexpr std::array<std::string_view, 8> kOfList = {"append", "clear",  "extend",  "insert",
                                                       "pop",    "remove", "reverse", "sort"};
  constexpr std::array<std::string_view, 5> kOfDict = {"clear", "pop", "popitem", "setdefault",
                                                       "update"};
  if (object.as_dict() != nullptr) return std::count(kOfDict.begin(), kOfDict.end(), name) > 0;
  const auto* sequence = object.as_sequence();
  return sequence != nullptr && sequence->is_list() &&
         std::count(kOfList.begin(), kOfList.end(), name) > 0;
}

}  // namespace

std::optional<Value> find_method(const Value& object, std::string_view name) {
  const MethodTable* methods = methods_of(object);
  if (methods == nullptr) return std::nullopt;
  if (is_refused(object, name)) {
    return Value::undefined(
        fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object)));
  }
  const auto place = methods->find(name);
  if (place == methods->end()) return std::nullopt;
  const auto call = [method = place->second, object](const Arguments& arguments) {
    return method(object, arguments);
  };
  return ObjectPtr(std::make_shared<Function>(std::string(name), call, object.depth() + 1));
}

}  // namespace pregate::model::jinja
