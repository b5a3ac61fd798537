// Walks the syntax tree and writes the text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/chat/jinja/arguments.h"
#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/scope.h"

namespace pregate::model::jinja {

/// One rendering. Failures are thrown; line() then says where the evaluator stood. Statements are
/// in evaluator_statements.cc, expressions in evaluator_expressions.cc.
class Evaluator {
 public:
  Evaluator();
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  /// Larger inputs allow for more steps and more values made.
  void set_variable(const std::string& name, Value value);
  std::string run(const Body& body);
  int line() const { return line_; }

  /// For macro objects: binds the arguments in a scope within `closure`, and gives the text.
  Value call_macro(const MacroDefinition& macro, const ScopePtr& closure,
                   const Arguments& arguments);
  /// For loop objects: the text of a recursive loop's next level.
  Value call_loop(const For& loop, const ScopePtr& scope, const Value& iterable, int64_t level);
  /// Objects that may come to hold themselves live until the end of the rendering, where they are
  /// cleared.
  void keep(ObjectPtr object) { kept_objects_.push_back(std::move(object)); }

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class DepthGuard;
  class ScopeGuard;
  class OutputGuard;

  Flow execute(const Body& body);
  Flow execute(const Statement& statement);
  Flow execute(const Text& node);
  Flow execute(const Print& node);
  Flow execute(const For& node);
  Flow execute(const If& node);
  Flow execute(const Set& node);
  Flow execute(const SetBlock& node);
  Flow execute(const DefineMacro& node);
  Flow execute(const CallBlock& node);
  Flow execute(const FilterBlock& node);
  Flow execute(const With& node);
  Flow execute(const Break&) { return Flow::kBreak; }
  Flow execute(const Continue&) { return Flow::kContinue; }
  /// Executes with the output going to `text`, in a scope of its own.
  Flow capture(const Body& body, std::string& text);
  void write(std::string_view text);
  void assign(const Target& target, Value value);
  Value make_macro(const MacroDefinition& macro);
  void bind_parameters(const MacroDefinition& macro, const Arguments& arguments);
  void bind_rest(const MacroDefinition& macro, const Arguments& arguments);
  Flow run_loop(const For& loop, const Value& iterable, int64_t level);
  std::vector<Value> choose_items(const For& loop, const Value& iterable);
  Value apply_block_filter(const Expression& filter, std::string text);

  Value evaluate(const Expression& expression);
  Value evaluate_or_none(const ExpressionPtr& expression);
  Value evaluate(const Literal& node) { return node.value; }
  Value evaluate(const Name& node);
  Value evaluate(const ListLiteral& node);
  Value evaluate(const DictLiteral& node);
  Value evaluate(const AttributeAccess& node);
  Value evaluate(const ItemAccess& node);
  Value evaluate(const SliceAccess& node);
  Value evaluate(const Call& node);
  Value evaluate(const FilterCall& node);
  Value evaluate(const TestCall& node);
  Value evaluate(const Unary& node);
  Value evaluate(const Binary& node);
  Value evaluate(const Logical& node);
  Value evaluate(const Concatenation& node);
  Value evaluate(const Comparison& node);
  Value evaluate(const Conditional& node);
  Value call(const Value& callee, const Arguments& arguments);
  Arguments evaluate(const CallArguments& node);
  void charge_step();
  void charge(const Value& value, bool is_made);

  ScopePtr scope_;
  std::string* out_ = nullptr;
  Value block_text_;  // input of a block's first filter
  int line_ = 1;
  int depth_ = 0;
  uint64_t input_units_ = 0;
  uint64_t steps_ = 0;
  uint64_t made_bytes_ = 0;
  std::vector<ObjectPtr> kept_objects_;
  std::vector<ScopePtr> kept_scopes_;  // those that macros refer to
};

}  // namespace pregate::model::jinja
