#include "model/chat/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

void check_extent(uint32_t depth, uint64_t units) {
  if (depth > kMaxValueDepth) raise_exhausted("makes values nested over {} deep", kMaxValueDepth);
  if (units > kMaxUnits) raise_exhausted("makes a value of more than {} elements", kMaxUnits);
}

size_t combine(size_t seed, size_t hash) { return seed * 1'000'003 ^ hash; }

bool equal_items(const std::vector<Value>& left, const std::vector<Value>& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), equal);
}

bool equal_sequences(const Sequence& left, const Sequence& right) {
  if (&left == &right) return true;
  if (left.is_tuple() != right.is_tuple()) return false;
  if (!left.is_tuple() && left.kind() != right.kind()) return false;
  if (left.is_iterator() || left.kind() == SequenceKind::kValues) return false;
  return equal_items(left.items(), right.items());
}

bool equal_dicts(const Dict& left, const Dict& right) {
  if (left.entries().size() != right.entries().size()) return false;
  return std::all_of(left.entries().begin(), left.entries().end(), [&](const Dict::Entry& entry) {
    const Value* other = right.find(entry.first);
    return other != nullptr && equal(entry.second, *other);
  });
}

[[noreturn]] void raise_unordered(const Value& left, const Value& right, std::string_view sign) {
  raise("'{}' not supported between instances of '{}' and '{}'", sign, type_name(left),
        type_name(right));
}

}  // namespace

Value::Value(std::string text) {
  check_text_size(text.size());
  storage_ = std::make_shared<const std::string>(std::move(text));
}

Value Value::undefined(std::string why) {
  Value value;
  value.storage_ = Undefined{std::make_shared<const std::string>(std::move(why))};
  return value;
}

Value Value::list(std::vector<Value> items) {
  return std::make_shared<Sequence>(SequenceKind::kList, std::move(items));
}

Value Value::tuple(std::vector<Value> items) {
  return std::make_shared<Sequence>(SequenceKind::kTuple, std::move(items));
}

Value Value::iterator(std::vector<Value> items) {
  return std::make_shared<Sequence>(SequenceKind::kIterator, std::move(items),
                                    "<generator object>");
}

Value Value::from_json(const boost::json::value& json) {
  switch (json.kind()) {
    case boost::json::kind::null:
      return {};
    case boost::json::kind::bool_:
      return json.get_bool();
    case boost::json::kind::int64:
      return json.get_int64();
    case boost::json::kind::uint64:
      return static_cast<double>(json.get_uint64());  // only where int64 does not suffice
    case boost::json::kind::double_:
      return json.get_double();
    case boost::json::kind::string:
      return std::string(json.get_string());
    case boost::json::kind::array: {
      std::vector<Value> items;
      for (const auto& item : json.get_array()) items.push_back(from_json(item));
      return list(std::move(items));
    }
    case boost::json::kind::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, item] : json.get_object()) {
        dict->set(std::string(key), from_json(item));
      }
      return DictPtr(std::move(dict));
    }
  }
  return {};
}

const std::string* Value::as_text() const {
  const auto* text = std::get_if<TextPtr>(&storage_);
  return text != nullptr ? text->get() : nullptr;
}

Sequence* Value::as_sequence() const {
  const auto* sequence = std::get_if<SequencePtr>(&storage_);
  return sequence != nullptr ? sequence->get() : nullptr;
}

const Dict* Value::as_dict() const {
  const auto* dict = std::get_if<DictPtr>(&storage_);
  return dict != nullptr ? dict->get() : nullptr;
}

Object* Value::as_object() const {
  const auto* object = std::get_if<ObjectPtr>(&storage_);
  return object != nullptr ? object->get() : nullptr;
}

uint32_t Value::depth() const {
  if (const auto* sequence = as_sequence()) return sequence->depth();
  if (const auto* dict = as_dict()) return dict->depth();
  if (const auto* object = as_object()) return object->depth();
  return 0;
}

uint64_t Value::units() const {
  if (const auto* text = as_text()) return 1 + text->size() / kBytesPerUnit;
  if (const auto* sequence = as_sequence()) return sequence->units();
  if (const auto* dict = as_dict()) return dict->units();
  return 1;
}

Sequence::Sequence(SequenceKind kind, std::vector<Value> items, std::string label)
    : kind_(kind), items_(std::move(items)), label_(std::move(label)) {
  for (const Value& item : items_) {
    depth_ = std::max(depth_, item.depth());
    units_ += item.units();
  }
  check_extent(++depth_, units_);
}

std::vector<Value> Sequence::take(size_t count) {
  if (!is_iterator()) return items_;
  const size_t begin = taken_;
  taken_ += std::min(count, items_.size() - taken_);
  return {items_.begin() + static_cast<ptrdiff_t>(begin),
          items_.begin() + static_cast<ptrdiff_t>(taken_)};
}

size_t HashOfValue::operator()(const Value& value) const {
  if (const auto number = as_number(value)) return std::hash<double>{}(*number);
  if (const auto* text = value.as_text()) return std::hash<std::string>{}(*text);
  if (const auto* object = value.as_object()) return std::hash<const void*>{}(object);
  if (value.is_none() || value.is_undefined()) return value.storage().index();
  const auto* sequence = value.as_sequence();
  if (sequence == nullptr || !(sequence->is_tuple() || sequence->kind() == SequenceKind::kRange)) {
    raise("unhashable type: '{}'", type_name(value));
  }
  size_t hash = 0;
  for (const Value& item : sequence->items()) hash = combine(hash, (*this)(item));
  return hash;
}

bool EqualityOfValues::operator()(const Value& left, const Value& right) const {
  return equal(left, right);
}

void Dict::set(const Value& key, Value value) {
  depth_ = std::max({depth_, key.depth() + 1, value.depth() + 1});
  units_ += key.units() + value.units();
  check_extent(depth_, units_);
  const auto [place, is_new] = index_.try_emplace(key, entries_.size());
  if (is_new) {
    entries_.emplace_back(key, std::move(value));
  } else {
    entries_[place->second].second = std::move(value);
  }
}

const Value* Dict::find(const Value& key) const {
  const auto place = index_.find(key);
  return place != index_.end() ? &entries_[place->second].second : nullptr;
}

Object::Object(uint32_t depth) : depth_(depth) { check_extent(depth_, 0); }

std::string Object::repr() const { return fmt::format("<{}>", type_name()); }

std::optional<Value> Object::attribute(std::string_view) const { return std::nullopt; }

Value Object::call(const Arguments&) { raise("'{}' object is not callable", type_name()); }

bool is_true(const Value& value) {
  return std::visit(
      Overloaded{[](None) { return false; }, [](const Undefined&) { return false; },
                 [](bool flag) { return flag; }, [](int64_t number) { return number != 0; },
                 [](double number) { return number != 0; },
                 [](const TextPtr& text) { return !text->empty(); },
                 [](const SequencePtr& sequence) {
                   return sequence->is_iterator() || !sequence->items().empty();
                 },
                 [](const DictPtr& dict) { return !dict->entries().empty(); },
                 [](const ObjectPtr&) { return true; }},
      value.storage());
}

bool equal(const Value& left, const Value& right) {
  const auto left_whole = as_whole_number(left);
  const auto right_whole = as_whole_number(right);
  if (left_whole && right_whole) return *left_whole == *right_whole;
  const auto left_number = as_number(left);
  const auto right_number = as_number(right);
  if (left_number && right_number) return *left_number == *right_number;
  if (left.storage().index() != right.storage().index()) return false;
  if (const auto* text = left.as_text()) return *text == *right.as_text();
  if (const auto* sequence = left.as_sequence()) {
    return equal_sequences(*sequence, *right.as_sequence());
  }
  if (const auto* dict = left.as_dict()) return equal_dicts(*dict, *right.as_dict());
  if (const auto* object = left.as_object()) return object == right.as_object();
  return left.is_none() || left.is_undefined();
}

bool same(const Value& left, const Value& right) {
  if (left.storage().index() != right.storage().index()) return false;
  if (left.as_sequence() != nullptr) return left.as_sequence() == right.as_sequence();
  if (left.as_dict() != nullptr) return left.as_dict() == right.as_dict();
  return equal(left, right);
}

bool less(const Value& left, const Value& right, std::string_view operator_sign) {
  const auto left_whole = as_whole_number(left);
  const auto right_whole = as_whole_number(right);
  if (left_whole && right_whole) return *left_whole < *right_whole;
  const auto left_number = as_number(left);
  const auto right_number = as_number(right);
  if (left_number && right_number) return *left_number < *right_number;
  if (left.as_text() != nullptr && right.as_text() != nullptr) {
    return *left.as_text() < *right.as_text();  // UTF-8 sorts as its code points do
  }
  const Sequence* first = left.as_sequence();
  const Sequence* second = right.as_sequence();
  const bool ordered =
      first != nullptr && second != nullptr &&
      ((first->is_list() && second->is_list()) || (first->is_tuple() && second->is_tuple()));
  if (!ordered) {
    require_defined(left);
    require_defined(right);
    raise_unordered(left, right, operator_sign);
  }
  const auto& a = first->items();
  const auto& b = second->items();
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    if (!equal(a[i], b[i])) return less(a[i], b[i], operator_sign);
  }
  return a.size() < b.size();
}

std::string_view type_name(SequenceKind kind) {
  switch (kind) {
    case SequenceKind::kList:
      return "list";
    case SequenceKind::kTuple:
      return "tuple";
    case SequenceKind::kGroup:
      return "_GroupTuple";
    case SequenceKind::kRange:
      return "range";
    case SequenceKind::kIterator:
      return "generator";
    case SequenceKind::kKeys:
      return "dict_keys";
    case SequenceKind::kValues:
      return "dict_values";
    case SequenceKind::kItems:
      return "dict_items";
  }
  return "list";
}

std::string_view type_name(const Value& value) {
  using View = std::string_view;
  return std::visit(
      Overloaded{[](None) { return View("NoneType"); },
                 [](const Undefined&) { return View("Undefined"); },
                 [](bool) { return View("bool"); }, [](int64_t) { return View("int"); },
                 [](double) { return View("float"); }, [](const TextPtr&) { return View("str"); },
                 [](const SequencePtr& sequence) { return type_name(sequence->kind()); },
                 [](const DictPtr&) { return View("dict"); },
                 [](const ObjectPtr& object) { return object->type_name(); }},
      value.storage());
}

std::optional<double> as_number(const Value& value) {
  if (const auto* number = value.as_float()) return *number;
  if (const auto whole = as_whole_number(value)) return static_cast<double>(*whole);
  return std::nullopt;
}

std::optional<int64_t> as_whole_number(const Value& value) {
  if (const auto* number = value.as_integer()) return *number;
  if (const auto* flag = value.as_bool()) return *flag ? 1 : 0;
  return std::nullopt;
}

bool is_callable(const Value& value) {
  // jinja2's Undefined defines __call__, so Python finds it callable.
  return value.is_undefined() || (value.as_object() != nullptr && value.as_object()->is_callable());
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.as_text() != nullptr || value.as_sequence() != nullptr ||
         value.as_dict() != nullptr;
}

std::vector<Value> iterate(const Value& value) {
  if (auto* sequence = value.as_sequence()) return sequence->take();
  std::vector<Value> items;
  if (const auto* dict = value.as_dict()) {
    for (const auto& [key, item] : dict->entries()) items.push_back(key);
  } else if (const auto* text = value.as_text()) {
    for (std::string& character : characters(*text)) items.emplace_back(std::move(character));
  } else if (!value.is_undefined()) {
    raise("'{}' object is not iterable", type_name(value));
  }
  return items;
}

int64_t length_of(const Value& value) {
  if (const auto* text = value.as_text()) return length(*text);
  const auto* sequence = value.as_sequence();
  if (sequence != nullptr && !sequence->is_iterator()) return std::ssize(sequence->items());
  if (const auto* dict = value.as_dict()) return std::ssize(dict->entries());
  if (value.is_undefined()) return 0;
  raise("object of type '{}' has no len()", type_name(value));
}

void require_defined(const Value& value) {
  if (const auto* undefined = std::get_if<Undefined>(&value.storage()))
    raise("{}", *undefined->why);
}

}  // namespace pregate::model::jinja
