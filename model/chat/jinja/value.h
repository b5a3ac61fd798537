// Values of the template language: Python's, as far as templates can see them.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include <boost/json.hpp>

namespace pregate::model::jinja {

class Dict;
class Object;
class Sequence;
struct Arguments;

using TextPtr = std::shared_ptr<const std::string>;
using SequencePtr = std::shared_ptr<Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

struct None {};
/// `why` is the message of the error that any use but printing, testing and iterating gives.
struct Undefined {
  TextPtr why;
};

/// Immutable, cheap to copy. Lists and dicts cannot change, because jinja2's immutable sandbox
/// refuses the methods that would change them; only namespaces (an Object) can.
class Value {
 public:
  using Storage = std::variant<None, Undefined, bool, int64_t, double, TextPtr, SequencePtr,
                               DictPtr, ObjectPtr>;

  Value() = default;
  template <std::integral T>
  Value(T number) {  // NOLINT(google-explicit-constructor): literals read better
    if constexpr (std::same_as<T, bool>) {
      storage_ = number;
    } else {
      storage_ = static_cast<int64_t>(number);
    }
  }
  Value(double number) : storage_(number) {}
  Value(std::string text);
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(SequencePtr sequence) : storage_(std::move(sequence)) {}
  Value(DictPtr dict) : storage_(std::move(dict)) {}
  Value(ObjectPtr object) : storage_(std::move(object)) {}

  static Value undefined(std::string why);
  /// A list, tuple, ... of the items.
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value iterator(std::vector<Value> items);
  static Value from_json(const boost::json::value& json);

  bool is_none() const { return std::holds_alternative<None>(storage_); }
  bool is_undefined() const { return std::holds_alternative<Undefined>(storage_); }
  const bool* as_bool() const { return std::get_if<bool>(&storage_); }
  const int64_t* as_integer() const { return std::get_if<int64_t>(&storage_); }
  const double* as_float() const { return std::get_if<double>(&storage_); }
  const std::string* as_text() const;
  Sequence* as_sequence() const;
  const Dict* as_dict() const;
  Object* as_object() const;
  const Storage& storage() const { return storage_; }

  /// Bounds the recursion (depth) and the time (units) of whatever walks the value.
  uint32_t depth() const;
  uint64_t units() const;

 private:
  Storage storage_;
};

enum class SequenceKind { kList, kTuple, kGroup, kRange, kIterator, kKeys, kValues, kItems };

/// Everything with elements in order. A kIterator is used up by the first who walks it, as Python's
/// generators are; kGroup is the (grouper, list) tuple that groupby makes.
class Sequence {
 public:
  /// Raises when the value would be too deep or too large. `label` is the repr where the items do
  /// not tell it: "range(0, 3)", "<generator object>".
  Sequence(SequenceKind kind, std::vector<Value> items, std::string label = "");

  SequenceKind kind() const { return kind_; }
  bool is_tuple() const { return kind_ == SequenceKind::kTuple || kind_ == SequenceKind::kGroup; }
  /// Lists, tuples and ranges: what has a length and takes an index.
  bool is_indexable() const { return is_tuple() || is_list() || kind_ == SequenceKind::kRange; }
  bool is_list() const { return kind_ == SequenceKind::kList; }
  bool is_iterator() const { return kind_ == SequenceKind::kIterator; }
  const std::vector<Value>& items() const { return items_; }
  const std::string& label() const { return label_; }
  uint32_t depth() const { return depth_; }
  uint64_t units() const { return units_; }

  /// All items, or of an iterator at most `count` of those that nobody has taken yet.
  std::vector<Value> take(size_t count = SIZE_MAX);

 private:
  SequenceKind kind_;
  std::vector<Value> items_;
  std::string label_;
  size_t taken_ = 0;
  uint32_t depth_ = 0;
  uint64_t units_ = 1;
};

struct HashOfValue {
  size_t operator()(const Value& value) const;
};
struct EqualityOfValues {
  bool operator()(const Value& left, const Value& right) const;
};

/// Keeps the order of insertion, as Python's dict does.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  /// Raises when the key is unhashable or the dict would be too deep or too large.
  void set(const Value& key, Value value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const { return find(Value(key)); }
  const std::vector<Entry>& entries() const { return entries_; }
  uint32_t depth() const { return depth_; }
  uint64_t units() const { return units_; }

 private:
  std::vector<Entry> entries_;
  std::unordered_map<Value, size_t, HashOfValue, EqualityOfValues> index_;
  uint32_t depth_ = 1;
  uint64_t units_ = 1;
};

/// What is neither data nor text: functions, macros, namespaces, the loop variable.
class Object {
 public:
  /// `depth` of the values it holds; raises when that is too deep.
  explicit Object(uint32_t depth = 0);
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  virtual std::string_view type_name() const = 0;
  virtual std::string repr() const;
  virtual std::optional<Value> attribute(std::string_view name) const;
  virtual bool is_callable() const { return false; }
  virtual Value call(const Arguments& arguments);
  /// Lets go of all values. For those objects that may come to hold themselves.
  virtual void clear() {}
  uint32_t depth() const { return depth_; }

 private:
  uint32_t depth_;
};

bool is_true(const Value& value);
bool equal(const Value& left, const Value& right);
/// Python's `is`, as far as templates can tell.
bool same(const Value& left, const Value& right);
/// left < right; raises for types that have no order.
bool less(const Value& left, const Value& right, std::string_view operator_sign = "<");
/// "str", "int", "dict", ... as Python names the type.
std::string_view type_name(const Value& value);
std::string_view type_name(SequenceKind kind);
/// Numbers and booleans, which Python counts among them.
std::optional<double> as_number(const Value& value);
std::optional<int64_t> as_whole_number(const Value& value);
bool is_callable(const Value& value);
bool is_iterable(const Value& value);
/// Items of a sequence, keys of a dict, characters of a text, nothing of undefined; else raises.
std::vector<Value> iterate(const Value& value);
/// Python's len(); raises for what has none.
int64_t length_of(const Value& value);
/// For undefined values raises their message.
void require_defined(const Value& value);

}  // namespace pregate::model::jinja
