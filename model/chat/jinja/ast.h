// The syntax tree of a template. Immutable once parsed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  ExpressionPtr star;         ///< *expression, or null
  ExpressionPtr double_star;  ///< **expression, or null
};

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct ListLiteral {
  std::vector<ExpressionPtr> items;
  bool is_tuple;
};
struct DictLiteral {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};
struct AttributeAccess {
  ExpressionPtr object;
  std::string name;
};
struct ItemAccess {
  ExpressionPtr object;
  ExpressionPtr key;
};
struct SliceAccess {
  ExpressionPtr object;
  ExpressionPtr start, stop, step;  ///< Null where left out.
};
struct Call {
  ExpressionPtr callee;
  CallArguments arguments;
};
struct FilterCall {
  ExpressionPtr input;  ///< Null: the text of the block that the filter is applied to.
  std::string name;
  CallArguments arguments;
};
struct TestCall {
  ExpressionPtr input;
  std::string name;
  CallArguments arguments;
};
struct Unary {
  enum class Kind { kNot, kNegative, kPositive } kind;
  ExpressionPtr operand;
};
enum class BinaryKind { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
struct Binary {
  BinaryKind kind;
  ExpressionPtr left, right;
};
struct Logical {
  bool is_and;
  ExpressionPtr left, right;
};
struct Concatenation {
  std::vector<ExpressionPtr> parts;
};
enum class CompareKind {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};
struct Comparison {
  ExpressionPtr first;
  std::vector<std::pair<CompareKind, ExpressionPtr>> rest;
};
struct Conditional {
  ExpressionPtr condition, then;
  ExpressionPtr otherwise;  ///< Null: undefined.
};

struct Expression {
  using Node = std::variant<Literal, Name, ListLiteral, DictLiteral, AttributeAccess, ItemAccess,
                            SliceAccess, Call, FilterCall, TestCall, Unary, Binary, Logical,
                            Concatenation, Comparison, Conditional>;
  int line;
  int depth;  ///< Of the tree below; bounded, because trees are walked recursively.
  Node node;
};

/// What `for` and `set` assign to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  std::string name;
  std::string attribute;      ///< Empty: the name itself.
  std::vector<Target> items;  ///< Not empty or is_tuple: unpack into these.
  bool is_tuple = false;
};

struct Statement;
using Body = std::vector<Statement>;

struct Text {
  Value text;
};
struct Print {
  ExpressionPtr expression;
};
struct For {
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr condition;  ///< Null: all items.
  bool is_recursive;
  Body body, otherwise;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
struct SetBlock {
  Target target;
  ExpressionPtr filter;  ///< Null, or FilterCalls whose innermost input is the block.
  Body body;
};
struct Parameter {
  std::string name;
  ExpressionPtr fallback;  ///< Null: none.
};
struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};
struct DefineMacro {
  MacroDefinition macro;
};
struct CallBlock {
  ExpressionPtr call;
  MacroDefinition caller;
};
struct FilterBlock {
  ExpressionPtr filter;
  Body body;
};
struct With {
  std::vector<std::pair<Target, ExpressionPtr>> assignments;  ///< None: only a scope of its own.
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  using Node = std::variant<Text, Print, For, If, Set, SetBlock, DefineMacro, CallBlock,
                            FilterBlock, With, Break, Continue>;
  int line;
  Node node;
};

}  // namespace pregate::model::jinja
