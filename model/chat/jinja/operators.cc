#include "model/chat/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/format.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

std::string_view sign_of(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kAdd:
      return "+";
    case BinaryKind::kSubtract:
      return "-";
    case BinaryKind::kMultiply:
      return "*";
    case BinaryKind::kDivide:
      return "/";
    case BinaryKind::kFloorDivide:
      return "//";
    case BinaryKind::kModulo:
      return "%";
    case BinaryKind::kPower:
      return "** or pow()";
  }
  return "";
}

[[noreturn]] void raise_unsupported(BinaryKind kind, const Value& left, const Value& right) {
  require_defined(left);
  require_defined(right);
  raise("unsupported operand type(s) for {}: '{}' and '{}'", sign_of(kind), type_name(left),
        type_name(right));
}

void check_fits(bool overflows) {
  if (overflows) raise("integer is too large");
}

int64_t sum(int64_t left, int64_t right) {
  int64_t result = 0;
  check_fits(__builtin_add_overflow(left, right, &result));
  return result;
}

int64_t difference(int64_t left, int64_t right) {
  int64_t result = 0;
  check_fits(__builtin_sub_overflow(left, right, &result));
  return result;
}

int64_t product(int64_t left, int64_t right) {
  int64_t result = 0;
  check_fits(__builtin_mul_overflow(left, right, &result));
  return result;
}

int64_t floor_divide(int64_t left, int64_t right) {
  if (right == 0) raise("integer division or modulo by zero");
  if (right == -1) return difference(0, left);
  const int64_t quotient = left / right;
  return quotient - ((left % right != 0 && (left < 0) != (right < 0)) ? 1 : 0);
}

int64_t modulo(int64_t left, int64_t right) {
  if (right == 0) raise("integer division or modulo by zero");
  if (right == -1) return 0;
  const int64_t rest = left % right;
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

double modulo(double left, double right) {
  const double rest = std::fmod(left, right);
  if (rest == 0) return std::copysign(0.0, right);
  return (rest < 0) != (right < 0) ? rest + right : rest;
}

Value power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) raise("0.0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0) result = product(result, base);
    exponent >>= 1;
    if (exponent > 0) base = product(base, base);
  }
  return result;
}

Value apply_whole(BinaryKind kind, int64_t left, int64_t right) {
  switch (kind) {
    case BinaryKind::kAdd:
      return sum(left, right);
    case BinaryKind::kSubtract:
      return difference(left, right);
    case BinaryKind::kMultiply:
      return product(left, right);
    case BinaryKind::kDivide:
      if (right == 0) raise("division by zero");
      return static_cast<double>(left) / static_cast<double>(right);
    case BinaryKind::kFloorDivide:
      return floor_divide(left, right);
    case BinaryKind::kModulo:
      return modulo(left, right);
    case BinaryKind::kPower:
      return power(left, right);
  }
  return {};
}

Value apply_float(BinaryKind kind, double left, double right) {
  switch (kind) {
    case BinaryKind::kAdd:
      return left + right;
    case BinaryKind::kSubtract:
      return left - right;
    case BinaryKind::kMultiply:
      return left * right;
    case BinaryKind::kPower:
      if (left == 0 && right < 0) raise("0.0 cannot be raised to a negative power");
      return std::pow(left, right);
    default:
      break;
  }
  if (right == 0) raise("float division by zero");
  if (kind == BinaryKind::kDivide) return left / right;
  if (kind == BinaryKind::kFloorDivide)
    return std::floor((left - modulo(left, right)) / right + 0.5);
  return modulo(left, right);
}

Value repeat_sequence(const Sequence& sequence, int64_t count) {
  const auto size = static_cast<uint64_t>(sequence.items().size());
  count = std::max<int64_t>(count, 0);
  if (size > 0 && static_cast<uint64_t>(count) > kMaxUnits / size) {
    raise_exhausted("makes a list of more than {} elements", kMaxUnits);
  }
  std::vector<Value> items;
  for (; count > 0; --count) {
    items.insert(items.end(), sequence.items().begin(), sequence.items().end());
  }
  return sequence.is_tuple() ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

std::optional<Value> multiply(const Value& left, const Value& right) {
  const auto count = as_whole_number(right);
  if (!count) return std::nullopt;
  if (const auto* text = left.as_text()) return repeat(*text, *count);
  const auto* sequence = left.as_sequence();
  const bool repeats = sequence != nullptr && (sequence->is_list() || sequence->is_tuple());
  return repeats ? std::optional(repeat_sequence(*sequence, *count)) : std::nullopt;
}

std::optional<Value> add(const Value& left, const Value& right) {
  if (left.as_text() != nullptr && right.as_text() != nullptr) {
    check_text_size(left.as_text()->size() + right.as_text()->size());
    return *left.as_text() + *right.as_text();
  }
  const auto* first = left.as_sequence();
  const auto* second = right.as_sequence();
  if (first == nullptr || second == nullptr) return std::nullopt;
  const bool are_tuples = first->is_tuple() && second->is_tuple();
  if (!are_tuples && !(first->is_list() && second->is_list())) return std::nullopt;
  std::vector<Value> items = first->items();
  items.insert(items.end(), second->items().begin(), second->items().end());
  return are_tuples ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

std::optional<Value> apply_other(BinaryKind kind, const Value& left, const Value& right) {
  if (kind == BinaryKind::kAdd) return add(left, right);
  if (kind == BinaryKind::kModulo && left.as_text() != nullptr) {
    return format_percent(*left.as_text(), right);
  }
  if (kind != BinaryKind::kMultiply) return std::nullopt;
  auto product = multiply(left, right);
  return product ? product : multiply(right, left);
}

std::string_view sign_of(CompareKind kind) {
  return kind == CompareKind::kLess        ? "<"
         : kind == CompareKind::kLessEqual ? "<="
         : kind == CompareKind::kGreater   ? ">"
                                           : ">=";
}

bool is_nan(const Value& value) {
  return value.as_float() != nullptr && std::isnan(*value.as_float());
}

bool compare_order(CompareKind kind, const Value& left, const Value& right) {
  const std::string_view sign = sign_of(kind);
  const bool left_is_less = less(left, right, sign);  // raises in the order of the operands
  if (is_nan(left) || is_nan(right)) return false;
  if (kind == CompareKind::kLess) return left_is_less;
  if (kind == CompareKind::kGreaterEqual) return !left_is_less;
  const bool right_is_less = less(right, left, sign);
  return kind == CompareKind::kGreater ? right_is_less : !right_is_less;
}

/// The elements that Python's slice picks, as positions.
struct SlicePositions {
  int64_t begin, end, step;

  template <typename Function>
  void for_each(Function&& function) const {
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
      function(static_cast<size_t>(i));
    }
  }
};

int64_t slice_number(const Value& value) {
  const auto number = as_whole_number(value);
  if (!number) raise("slice indices must be integers or None");
  constexpr int64_t kFar = 1LL << 40;  // beyond any length, so that sums cannot overflow
  return std::clamp(*number, -kFar, kFar);
}

SlicePositions slice_positions(int64_t size, const Value& start, const Value& stop,
                               const Value& step_value) {
  const int64_t step = step_value.is_none() ? 1 : slice_number(step_value);
  if (step == 0) raise("slice step cannot be zero");
  const int64_t lowest = step > 0 ? 0 : -1;
  const int64_t highest = step > 0 ? size : size - 1;
  const auto place = [&](const Value& value, int64_t fallback) {
    if (value.is_none()) return fallback;
    const int64_t number = slice_number(value);
    return std::clamp(number < 0 ? number + size : number, lowest, highest);
  };
  return {place(start, step > 0 ? lowest : highest), place(stop, step > 0 ? highest : lowest),
          step};
}

}  // namespace

Value apply(BinaryKind kind, const Value& left, const Value& right) {
  const auto left_whole = as_whole_number(left);
  const auto right_whole = as_whole_number(right);
  if (left_whole && right_whole) return apply_whole(kind, *left_whole, *right_whole);
  const auto left_number = as_number(left);
  const auto right_number = as_number(right);
  if (left_number && right_number) return apply_float(kind, *left_number, *right_number);
  if (auto result = apply_other(kind, left, right)) return *std::move(result);
  raise_unsupported(kind, left, right);
}

bool compare(CompareKind kind, const Value& left, const Value& right) {
  switch (kind) {
    case CompareKind::kEqual:
      return equal(left, right);
    case CompareKind::kNotEqual:
      return !equal(left, right);
    case CompareKind::kIn:
      return contains(right, left);
    case CompareKind::kNotIn:
      return !contains(right, left);
    default:
      return compare_order(kind, left, right);
  }
}

Value negate(const Value& operand) {
  if (const auto number = as_whole_number(operand)) {
    return apply_whole(BinaryKind::kSubtract, 0, *number);
  }
  if (const auto* number = operand.as_float()) return -*number;
  require_defined(operand);
  raise("bad operand type for unary -: '{}'", type_name(operand));
}

Value keep_sign(const Value& operand) {
  if (const auto number = as_whole_number(operand)) return *number;
  if (operand.as_float() != nullptr) return operand;
  require_defined(operand);
  raise("bad operand type for unary +: '{}'", type_name(operand));
}

bool contains(const Value& container, const Value& value) {
  if (const auto* text = container.as_text()) {
    if (value.as_text() == nullptr) {
      raise("'in <string>' requires string as left operand, not {}", type_name(value));
    }
    return find_bytes(*text, *value.as_text()) != std::string::npos;
  }
  if (const auto* dict = container.as_dict()) return dict->find(value) != nullptr;
  if (!is_iterable(container)) raise("argument of type '{}' is not iterable", type_name(container));
  const std::vector<Value> items = iterate(container);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& item) { return equal(item, value); });
}

Value slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (const auto* text = object.as_text()) {
    const std::u32string whole = to_utf32(*text);
    std::u32string part;
    slice_positions(std::ssize(whole), start, stop, step).for_each([&](size_t i) {
      part += whole[i];
    });
    return to_utf8(part);
  }
  const auto* sequence = object.as_sequence();
  if (sequence == nullptr || !sequence->is_indexable()) {
    require_defined(object);
    return Value::undefined(fmt::format("'{}' object has no element slice", type_name(object)));
  }
  std::vector<Value> items;
  slice_positions(std::ssize(sequence->items()), start, stop, step).for_each([&](size_t i) {
    items.push_back(sequence->items()[i]);
  });
  return sequence->is_tuple() ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

}  // namespace pregate::model::jinja
