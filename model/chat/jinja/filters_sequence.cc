// Filters of lists, dicts and whatever else can be walked. Where jinja2 gives a generator, these
// give an iterator: it is true, has no length, and can be walked once.
#include <algorithm>

#include "model/chat/jinja/attributes.h"
#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/operators.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

Value fold_case(const Value& value, bool is_case_sensitive) {
  const bool folds = !is_case_sensitive && value.as_text() != nullptr;
  return folds ? Value(lower(*value.as_text())) : value;
}

/// What sort, min, unique and groupby compare: the item, or what is at `path` within it.
Value key_of(const Value& item, const Value& path, bool is_case_sensitive,
             const Value& fallback = {}) {
  const Value key = path.is_none() ? item : get_path(item, path, fallback);
  return fold_case(key, is_case_sensitive);
}

/// The items in the stable order of their keys.
std::vector<Value> sorted(std::vector<Value> items, std::vector<Value> keys, bool is_reversed) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t left, size_t right) {
    return is_reversed ? less(keys[right], keys[left]) : less(keys[left], keys[right]);
  });
  std::vector<Value> out;
  for (const size_t i : order) out.push_back(std::move(items[i]));
  return out;
}

Value first(const Value& input, const Arguments& arguments) {
  const Bound bound("first", arguments, {});
  const std::vector<Value> items =
      input.as_sequence() != nullptr ? input.as_sequence()->take(1) : iterate(input);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(const Value& input, const Arguments& arguments) {
  const Bound bound("last", arguments, {});
  if (input.as_sequence() != nullptr && input.as_sequence()->is_iterator()) {
    raise("'generator' object is not reversible");
  }
  const std::vector<Value> items = iterate(input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value count(const Value& input, const Arguments& arguments) {
  const Bound bound("length", arguments, {});
  return length_of(input);
}

Value to_list(const Value& input, const Arguments& arguments) {
  const Bound bound("list", arguments, {});
  return Value::list(iterate(input));
}

Value items_of(const Value& input, const Arguments& arguments) {
  const Bound bound("items", arguments, {});
  std::vector<Value> pairs;
  if (input.as_dict() == nullptr && !input.is_undefined()) {
    raise("Can only get item pairs from a mapping.");
  }
  if (input.as_dict() != nullptr) {
    for (const auto& [key, value] : input.as_dict()->entries()) {
      pairs.push_back(Value::tuple({key, value}));
    }
  }
  return Value::iterator(std::move(pairs));
}

Value reverse(const Value& input, const Arguments& arguments) {
  const Bound bound("reverse", arguments, {});
  if (const auto* text = input.as_text()) {
    std::u32string whole = to_utf32(*text);
    std::reverse(whole.begin(), whole.end());
    return to_utf8(whole);
  }
  std::vector<Value> items = iterate(input);
  std::reverse(items.begin(), items.end());
  return Value::iterator(std::move(items));
}

Value join(const Value& input, const Arguments& arguments) {
  const Bound bound("join", arguments, {"d", "attribute"});
  const std::string separator = str(bound.value(0, ""));
  std::string out;
  bool is_first = true;
  for (const Value& item : iterate(input)) {
    if (!is_first) out += separator;
    out += str(bound.is_none(1) ? item : get_path(item, bound.value(1)));
    check_text_size(out.size());
    is_first = false;
  }
  return out;
}

Value sum(const Value& input, const Arguments& arguments) {
  const Bound bound("sum", arguments, {"attribute", "start"});
  Value total = bound.value(1, 0);
  if (total.as_text() != nullptr) raise("sum() can't sum strings [use ''.join(seq) instead]");
  uint64_t handled = 0;
  for (const Value& item : iterate(input)) {
    total =
        apply(BinaryKind::kAdd, total, bound.is_none(0) ? item : get_path(item, bound.value(0)));
    handled += total.units();  // lists are copied again and again
    if (handled > kMaxUnits) raise_exhausted("sum handles more than {} elements", kMaxUnits);
  }
  return total;
}

template <bool takes_most>
Value extreme(const Value& input, const Arguments& arguments) {
  const Bound bound(takes_most ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const std::vector<Value> items = iterate(input);
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const auto key = [&](const Value& item) {
    return key_of(item, bound.value(1), bound.boolean(0, false));
  };
  const Value* best = &items[0];
  Value best_key = key(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    Value candidate = key(items[i]);
    if (!(takes_most ? less(best_key, candidate, ">") : less(candidate, best_key))) continue;
    best = &items[i];
    best_key = std::move(candidate);
  }
  return *best;
}

/// `attribute` may name several, separated by commas.
Value sort(const Value& input, const Arguments& arguments) {
  const Bound bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool is_case_sensitive = bound.boolean(1, false);
  const Value attribute = bound.value(2);
  std::vector<Value> paths = {attribute};
  if (attribute.as_text() != nullptr) {
    const auto names = split(*attribute.as_text(), ",", -1);
    paths.assign(names.begin(), names.end());
  }
  std::vector<Value> items = iterate(input);
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> parts;
    for (const Value& path : paths) parts.push_back(key_of(item, path, is_case_sensitive));
    keys.push_back(Value::list(std::move(parts)));
  }
  return Value::list(sorted(std::move(items), std::move(keys), bound.boolean(0, false)));
}

Value sort_dict(const Value& input, const Arguments& arguments) {
  const Bound bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.text(1, "key");
  if (by != "key" && by != "value") raise("You can only sort by either \"key\" or \"value\"");
  require_defined(input);
  if (input.as_dict() == nullptr) raise("dictsort needs a dict, not {}", type_name(input));
  std::vector<Value> pairs;
  std::vector<Value> keys;
  for (const auto& [key, value] : input.as_dict()->entries()) {
    pairs.push_back(Value::tuple({key, value}));
    keys.push_back(fold_case(by == "key" ? key : value, bound.boolean(0, false)));
  }
  return Value::list(sorted(std::move(pairs), std::move(keys), bound.boolean(2, false)));
}

Value unique(const Value& input, const Arguments& arguments) {
  const Bound bound("unique", arguments, {"case_sensitive", "attribute"});
  Dict seen;
  std::vector<Value> out;
  for (const Value& item : iterate(input)) {
    const Value key = key_of(item, bound.value(1), bound.boolean(0, false));
    if (seen.find(key) != nullptr) continue;
    seen.set(key, {});
    out.push_back(item);
  }
  return Value::iterator(std::move(out));
}

Value group_by(const Value& input, const Arguments& arguments) {
  const Bound bound("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const bool is_case_sensitive = bound.boolean(2, false);
  const auto key = [&](const Value& item, bool keeps_case) {
    return key_of(item, bound.value(0), keeps_case, bound.value(1));
  };
  std::vector<Value> items = iterate(input);
  std::vector<Value> keys;
  for (const Value& item : items) keys.push_back(key(item, is_case_sensitive));
  items = sorted(std::move(items), std::move(keys), false);
  std::vector<Value> groups;
  for (size_t begin = 0, end = 0; begin < items.size(); begin = end) {
    std::vector<Value> members;
    const Value shared = key(items[begin], is_case_sensitive);
    for (; end < items.size() && equal(key(items[end], is_case_sensitive), shared); ++end) {
      members.push_back(items[end]);
    }
    if (members.empty()) members.push_back(items[end++]);  // NaN equals nothing, not even itself
    std::vector<Value> group = {key(items[begin], true), Value::list(std::move(members))};
    groups.emplace_back(std::make_shared<Sequence>(SequenceKind::kGroup, std::move(group)));
  }
  return Value::list(std::move(groups));
}

Value batch(const Value& input, const Arguments& arguments) {
  const Bound bound("batch", arguments, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 1);
  std::vector<Value> batches;
  std::vector<Value> current;
  const auto flush = [&] { batches.push_back(Value::list(std::exchange(current, {}))); };
  for (const Value& item : iterate(input)) {
    if (std::ssize(current) == size) flush();
    current.push_back(item);
  }
  if (current.empty()) return Value::iterator(std::move(batches));
  if (!bound.is_none(1) && std::ssize(current) < size) {
    if (size > static_cast<int64_t>(kMaxUnits)) raise_exhausted("batch is too large");
    current.resize(static_cast<size_t>(size), bound.value(1));
  }
  flush();
  return Value::iterator(std::move(batches));
}

Value slice_into(const Value& input, const Arguments& arguments) {
  const Bound bound("slice", arguments, {"slices", "fill_with"}, 1);
  const std::vector<Value> items = iterate(input);
  const int64_t slices = bound.integer(0, 1);
  if (slices == 0) raise("integer division or modulo by zero");
  if (slices > static_cast<int64_t>(kMaxUnits)) raise_exhausted("slice makes too many lists");
  if (slices < 0) return Value::iterator({});
  const int64_t share = std::ssize(items) / slices;
  const int64_t with_extra = std::ssize(items) % slices;
  std::vector<Value> out;
  auto begin = items.begin();
  for (int64_t i = 0; i < slices; ++i) {
    const auto end = begin + share + (i < with_extra ? 1 : 0);
    std::vector<Value> part(begin, end);
    if (!bound.is_none(1) && i >= with_extra) part.push_back(bound.value(1));
    out.push_back(Value::list(std::move(part)));
    begin = end;
  }
  return Value::iterator(std::move(out));
}

Value map(const Value& input, const Arguments& arguments) {
  std::vector<Value> out;
  if (!is_true(input)) return Value::iterator({});
  if (arguments.positional.empty() && arguments.keyword("attribute") != nullptr) {
    const Bound bound("map", arguments, {"attribute", "default"});
    for (const Value& item : iterate(input)) {
      out.push_back(get_path(item, bound.value(0), bound.value(1)));
    }
    return Value::iterator(std::move(out));
  }
  if (arguments.positional.empty()) raise("map requires a filter argument");
  const auto& given = arguments.positional;
  const Arguments rest{{given.begin() + 1, given.end()}, arguments.keywords};
  uint64_t units = 0;
  for (const Value& item : iterate(input)) {
    out.push_back(apply_filter(str(given[0]), item, rest));
    units += out.back().units();
    if (units > kMaxUnits) raise_exhausted("map makes more than {} elements", kMaxUnits);
  }
  return Value::iterator(std::move(out));
}

/// select, reject, selectattr and rejectattr: keeps the items that pass a test, or fail it.
template <bool by_attribute, bool keeps_passing>
Value choose(const Value& input, const Arguments& arguments) {
  if (!is_true(input)) return Value::iterator({});
  const auto& given = arguments.positional;
  constexpr size_t kTest = by_attribute ? 1 : 0;
  if (given.size() < kTest) raise("Missing parameter for attribute name");
  const bool has_test = given.size() > kTest;
  Arguments rest{{}, arguments.keywords};
  if (has_test) rest.positional.assign(given.begin() + kTest + 1, given.end());
  std::vector<Value> out;
  for (const Value& item : iterate(input)) {
    const Value subject = by_attribute ? get_path(item, given[0]) : item;
    const bool passes = has_test ? apply_test(str(given[kTest]), subject, rest) : is_true(subject);
    if (passes == keeps_passing) out.push_back(item);
  }
  return Value::iterator(std::move(out));
}

}  // namespace

void add_sequence_filters(FilterTable& table) {
  table.insert({{"batch", batch},
                {"count", count},
                {"dictsort", sort_dict},
                {"first", first},
                {"groupby", group_by},
                {"items", items_of},
                {"join", join},
                {"last", last},
                {"length", count},
                {"list", to_list},
                {"map", map},
                {"max", extreme<true>},
                {"min", extreme<false>},
                {"reject", choose<false, false>},
                {"rejectattr", choose<true, false>},
                {"reverse", reverse},
                {"select", choose<false, true>},
                {"selectattr", choose<true, true>},
                {"slice", slice_into},
                {"sort", sort},
                {"sum", sum},
                {"unique", unique}});
}

}  // namespace pregate::model::jinja
