#include <algorithm>

#include "model/chat/jinja/attributes.h"
#include "model/chat/jinja/evaluator.h"
#include "model/chat/jinja/evaluator_guards.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/operators.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

/// Whether the expression makes a value, rather than handing on one that exists.
bool makes_value(const Expression::Node& node) {
  return !std::holds_alternative<Literal>(node) && !std::holds_alternative<Name>(node) &&
         !std::holds_alternative<AttributeAccess>(node) &&
         !std::holds_alternative<ItemAccess>(node) && !std::holds_alternative<Logical>(node) &&
         !std::holds_alternative<Conditional>(node);
}

}  // namespace

Value Evaluator::evaluate(const Expression& expression) {
  const DepthGuard depth(*this);
  line_ = expression.line;
  Value value = std::visit([this](const auto& node) { return evaluate(node); }, expression.node);
  charge(value, makes_value(expression.node));
  return value;
}

Value Evaluator::evaluate_or_none(const ExpressionPtr& expression) {
  return expression ? evaluate(*expression) : Value();
}

Value Evaluator::evaluate(const Name& node) {
  const Value* value = scope_->find(node.name);
  if (value != nullptr) return *value;
  return Value::undefined(fmt::format("{} is undefined", repr_text(node.name)));
}

Value Evaluator::evaluate(const ListLiteral& node) {
  std::vector<Value> items;
  for (const auto& item : node.items) items.push_back(evaluate(*item));
  return node.is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

Value Evaluator::evaluate(const DictLiteral& node) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : node.entries) {
    const Value name = evaluate(*key);
    dict->set(name, evaluate(*value));
  }
  return DictPtr(std::move(dict));
}

Value Evaluator::evaluate(const AttributeAccess& node) {
  return get_attribute(evaluate(*node.object), node.name);
}

Value Evaluator::evaluate(const ItemAccess& node) {
  const Value object = evaluate(*node.object);
  return get_item(object, evaluate(*node.key));
}

Value Evaluator::evaluate(const SliceAccess& node) {
  const Value object = evaluate(*node.object);
  const Value start = evaluate_or_none(node.start);
  const Value stop = evaluate_or_none(node.stop);
  return slice(object, start, stop, evaluate_or_none(node.step));
}

Value Evaluator::evaluate(const Call& node) {
  const Value callee = evaluate(*node.callee);
  return call(callee, evaluate(node.arguments));
}

Value Evaluator::call(const Value& callee, const Arguments& arguments) {
  require_defined(callee);
  if (callee.as_object() == nullptr) raise("'{}' object is not callable", type_name(callee));
  return callee.as_object()->call(arguments);
}

Arguments Evaluator::evaluate(const CallArguments& node) {
  Arguments arguments;
  for (const auto& value : node.positional) arguments.positional.push_back(evaluate(*value));
  for (const auto& [name, value] : node.keywords) {
    if (arguments.keyword(name) != nullptr) raise("keyword argument repeated: {}", name);
    arguments.keywords.emplace_back(name, evaluate(*value));
  }
  if (node.star) {
    for (Value& item : iterate(evaluate(*node.star)))
      arguments.positional.push_back(std::move(item));
  }
  if (!node.double_star) return arguments;
  const Value entries = evaluate(*node.double_star);
  if (entries.as_dict() == nullptr) raise("argument after ** must be a mapping");
  for (const auto& [name, value] : entries.as_dict()->entries()) {
    if (name.as_text() == nullptr) raise("keywords must be strings");
    if (arguments.keyword(*name.as_text()) != nullptr) {
      raise("got multiple values for keyword argument '{}'", *name.as_text());
    }
    arguments.keywords.emplace_back(*name.as_text(), value);
  }
  return arguments;
}

Value Evaluator::evaluate(const FilterCall& node) {
  const Value input = node.input ? evaluate(*node.input) : block_text_;
  return apply_filter(node.name, input, evaluate(node.arguments));
}

Value Evaluator::evaluate(const TestCall& node) {
  const Value input = evaluate(*node.input);
  return apply_test(node.name, input, evaluate(node.arguments));
}

Value Evaluator::evaluate(const Unary& node) {
  const Value operand = evaluate(*node.operand);
  switch (node.kind) {
    case Unary::Kind::kNot:
      return !is_true(operand);
    case Unary::Kind::kNegative:
      return negate(operand);
    case Unary::Kind::kPositive:
      return keep_sign(operand);
  }
  return {};
}

Value Evaluator::evaluate(const Binary& node) {
  const Value left = evaluate(*node.left);
  return apply(node.kind, left, evaluate(*node.right));
}

Value Evaluator::evaluate(const Logical& node) {
  Value left = evaluate(*node.left);
  return is_true(left) == node.is_and ? evaluate(*node.right) : left;
}

Value Evaluator::evaluate(const Concatenation& node) {
  std::string text;
  for (const auto& part : node.parts) {
    text += str(evaluate(*part));
    check_text_size(text.size());
  }
  return text;
}

Value Evaluator::evaluate(const Comparison& node) {
  Value left = evaluate(*node.first);
  for (const auto& [kind, expression] : node.rest) {
    Value right = evaluate(*expression);
    if (!compare(kind, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::evaluate(const Conditional& node) {
  if (is_true(evaluate(*node.condition))) return evaluate(*node.then);
  if (node.otherwise) return evaluate(*node.otherwise);
  return Value::undefined(
      "the inline if-expression evaluated to false and no else section was defined.");
}

}  // namespace pregate::model::jinja
