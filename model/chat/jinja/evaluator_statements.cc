#include "model/chat/jinja/evaluator.h"
#include "model/chat/jinja/evaluator_guards.h"
#include "model/chat/jinja/functions.h"
#include "model/chat/jinja/loop.h"
#include "model/chat/jinja/repr.h"

namespace pregate::model::jinja {

Evaluator::Flow Evaluator::execute(const Body& body) {
  for (const Statement& statement : body) {
    const Flow flow = execute(statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::execute(const Statement& statement) {
  const DepthGuard depth(*this);
  line_ = statement.line;
  charge_step();
  return std::visit([this](const auto& node) { return execute(node); }, statement.node);
}

Evaluator::Flow Evaluator::execute(const Text& node) {
  write(*node.text.as_text());
  return Flow::kNext;
}

Evaluator::Flow Evaluator::execute(const Print& node) {
  write(str(evaluate(*node.expression)));
  return Flow::kNext;
}

void Evaluator::write(std::string_view text) {
  if (out_->size() + text.size() > kMaxOutputBytes) {
    raise_exhausted("the template writes more than {} bytes", kMaxOutputBytes);
  }
  *out_ += text;
}

Evaluator::Flow Evaluator::capture(const Body& body, std::string& text) {
  const ScopeGuard scope(*this, scope_);
  const OutputGuard output(*this, text);
  return execute(body);
}

Evaluator::Flow Evaluator::execute(const For& node) {
  return run_loop(node, evaluate(*node.iterable), 0);
}

Value Evaluator::call_loop(const For& loop, const ScopePtr& scope, const Value& iterable,
                           int64_t level) {
  const DepthGuard depth(*this);
  const ScopeGuard inner(*this, scope);
  std::string text;
  const OutputGuard output(*this, text);
  run_loop(loop, iterable, level);
  return text;
}

Evaluator::Flow Evaluator::run_loop(const For& loop, const Value& iterable, int64_t level) {
  const Value items = Value::list(choose_items(loop, iterable));
  charge(items, true);
  const auto variable =
      std::make_shared<Loop>(*this, loop, items, level, loop.is_recursive ? scope_ : nullptr);
  const auto& walked = items.as_sequence()->items();
  bool any_finished = false;
  for (size_t i = 0; i < walked.size(); ++i) {
    const ScopeGuard scope(*this, scope_);
    charge_step();
    variable->move_to(i);
    scope_->set("loop", ObjectPtr(variable));
    assign(loop.target, walked[i]);
    const Flow flow = execute(loop.body);
    if (flow == Flow::kBreak) break;
    any_finished |= flow == Flow::kNext;
  }
  if (any_finished) return Flow::kNext;
  // As in jinja2, `else` also runs when every pass was cut short by break or continue.
  const ScopeGuard scope(*this, scope_);
  return execute(loop.otherwise);
}

std::vector<Value> Evaluator::choose_items(const For& loop, const Value& iterable) {
  std::vector<Value> items = iterate(iterable);
  if (!loop.condition) return items;
  std::vector<Value> chosen;
  for (Value& item : items) {
    const ScopeGuard scope(*this, scope_);
    assign(loop.target, item);
    if (is_true(evaluate(*loop.condition))) chosen.push_back(std::move(item));
  }
  return chosen;
}

Evaluator::Flow Evaluator::execute(const If& node) {
  for (const auto& [condition, body] : node.branches) {
    if (is_true(evaluate(*condition))) return execute(body);
  }
  return execute(node.otherwise);
}

Evaluator::Flow Evaluator::execute(const Set& node) {
  assign(node.target, evaluate(*node.value));
  return Flow::kNext;
}

Evaluator::Flow Evaluator::execute(const SetBlock& node) {
  std::string text;
  const Flow flow = capture(node.body, text);
  if (flow != Flow::kNext) return flow;
  assign(node.target,
         node.filter ? apply_block_filter(*node.filter, std::move(text)) : Value(std::move(text)));
  return Flow::kNext;
}

Evaluator::Flow Evaluator::execute(const FilterBlock& node) {
  std::string text;
  const Flow flow = capture(node.body, text);
  if (flow == Flow::kNext) write(str(apply_block_filter(*node.filter, std::move(text))));
  return flow;
}

Value Evaluator::apply_block_filter(const Expression& filter, std::string text) {
  Value outer = std::exchange(block_text_, Value(std::move(text)));
  Value result = evaluate(filter);
  block_text_ = std::move(outer);
  return result;
}

Evaluator::Flow Evaluator::execute(const DefineMacro& node) {
  scope_->set(node.macro.name, make_macro(node.macro));
  return Flow::kNext;
}

Evaluator::Flow Evaluator::execute(const CallBlock& node) {
  const auto& call_node = std::get<Call>(node.call->node);
  const Value callee = evaluate(*call_node.callee);
  Arguments arguments = evaluate(call_node.arguments);
  arguments.keywords.emplace_back("caller", make_macro(node.caller));
  write(str(call(callee, arguments)));
  return Flow::kNext;
}

Evaluator::Flow Evaluator::execute(const With& node) {
  std::vector<Value> values;
  for (const auto& [target, value] : node.assignments) values.push_back(evaluate(*value));
  const ScopeGuard scope(*this, scope_);
  for (size_t i = 0; i < values.size(); ++i) assign(node.assignments[i].first, values[i]);
  return execute(node.body);
}

void Evaluator::assign(const Target& target, Value value) {
  if (target.is_tuple) {
    std::vector<Value> items = iterate(value);
    const size_t wanted = target.items.size();
    if (items.size() < wanted) {
      raise("not enough values to unpack (expected {}, got {})", wanted, items.size());
    }
    if (items.size() > wanted) raise("too many values to unpack (expected {})", wanted);
    for (size_t i = 0; i < wanted; ++i) assign(target.items[i], std::move(items[i]));
  } else if (target.attribute.empty()) {
    scope_->set(target.name, std::move(value));
  } else {
    const Value* holder = scope_->find(target.name);
    auto* space = holder != nullptr ? dynamic_cast<Namespace*>(holder->as_object()) : nullptr;
    if (space == nullptr) raise("cannot assign attribute on non-namespace object");
    space->set(target.attribute, std::move(value));
  }
}

}  // namespace pregate::model::jinja
